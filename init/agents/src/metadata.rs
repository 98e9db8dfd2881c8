// SPDX-License-Identifier: Apache-2.0
//! Metadata: what a platform's service knows of this machine, and the user-data that it has for it; and telling the platform
//! that the machine is up.
//!
//! One conversation: a session where the platform wants one, the user-data, the attributes. A path that is not there is an
//! answer; everything else that goes wrong ends the conversation, and PID 1 begins another later.

mod service;
pub mod wireserver;

use crate::{
    attribute,
    network::{Description, Form},
    probe::explain,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::{Value, json};
use service::{Asker, Question, header};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};
use stele_config::MAX_BYTES;
use stele_platform::{Attribute, CheckIn, Metadata};

pub use service::AskError;

/// The longest session, and the longest answer in plain text.
const LONGEST_WORD: usize = 4096;
/// Lines of what is listed that are looked at.
const MOST_LINES: usize = 16;
/// The largest JSON that attributes are taken from.
const LONGEST_JSON: usize = 256 * 1024;
/// How often what is "not yet" there is asked for again, and after how long.
const AGAIN: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// What the service said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The user-data, if there is any.
    pub user_data: Option<Vec<u8>>,
    /// What it knows of the machine.
    pub attributes: BTreeMap<&'static str, String>,
    /// What it says of the network, as documents.
    pub network: Vec<Value>,
}

impl Said {
    /// A line of JSON, `{"attributes":{…},"network":[…],"userData":BOOL}`, and behind it the user-data as it is.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn write(&self, output: &mut impl Write) -> io::Result<()> {
        let line = json!({
            "attributes": self.attributes,
            "network": self.network,
            "userData": self.user_data.is_some(),
        });
        writeln!(output, "{line}")?;
        output.write_all(self.user_data.as_deref().unwrap_or_default())?;
        output.flush()
    }
}

/// Why a conversation came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// One question.
    #[error("asking {url}")]
    Ask {
        /// What was asked.
        url: String,
        /// Why there is no answer.
        #[source]
        source: AskError,
    },
    /// What the service calls a session can't be said in a header.
    #[error("the session that {0} gave can't be used")]
    Session(String),
    /// What is not JSON where it should be, or names nothing to be told.
    #[error("what {url} says makes no sense: {why}")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// Nobody takes what it said.
    #[error("passing it on")]
    Output(#[source] io::Error),
}

impl MetadataError {
    /// Whether nobody was met at all.
    #[must_use]
    pub fn is_of_the_way(&self) -> bool {
        matches!(self, MetadataError::Ask { source: AskError::Connect(_), .. })
    }

    /// Whether asking again would bring the same.
    fn is_permanent(&self) -> bool {
        match self {
            MetadataError::Ask { source: AskError::Status(status), .. } => {
                status.is_client_error() && *status != StatusCode::TOO_MANY_REQUESTS
            }
            MetadataError::Ask { source: AskError::Body { .. }, .. } => true,
            _ => false,
        }
    }
}

/// A service, at `server`, a URL without a path, with trust roots in PEM for those that speak TLS.
#[derive(Debug)]
pub struct Service<'a> {
    metadata: &'a Metadata,
    server: String,
    asker: Asker,
    /// The session, once there is one.
    session: HeaderMap,
}

impl<'a> Service<'a> {
    /// The service that a platform describes.
    #[must_use]
    pub fn new(metadata: &'a Metadata, server: String, roots: Vec<u8>) -> Self {
        let asker = Asker { low_port: metadata.low_port, roots };
        Self { metadata, server, asker, session: HeaderMap::new() }
    }

    /// Has the conversation.
    ///
    /// # Errors
    /// When the service does not answer, or not in order.
    pub async fn converse(&mut self) -> Result<Said, MetadataError> {
        self.begin().await?;
        let mut said = Said::default();
        for path in self.metadata.user_data {
            let found = self.find(path, &[], MAX_BYTES).await?;
            if let Some(bytes) = found.filter(|bytes| !bytes.is_empty()) {
                said.user_data = Some(bytes);
                break;
            }
        }
        if let Some((path, form)) = self.metadata.network
            && let Some(form) = Form::named(form)
        {
            // Whoever describes the network in a way that nobody understands, or not at all, has told the rest all the same.
            match self.find(path, &[], LONGEST_JSON).await {
                Ok(found) => match found.map(|bytes| form.documents(&bytes)).transpose() {
                    Ok(documents) => {
                        said.network = documents.map(Description::told).unwrap_or_default()
                    }
                    Err(error) => eprintln!("{}{path}: {error}", self.server),
                },
                Err(error) if error.is_permanent() => eprintln!("{}", explain(&error)),
                Err(error) => return Err(error),
            }
        }
        let (mut answers, mut found) = (BTreeMap::new(), BTreeMap::<Attribute, Vec<String>>::new());
        for (attribute, path) in self.metadata.attributes {
            let texts = match self.texts(path, &mut answers).await {
                Ok(texts) => texts,
                // Without a tag the machine is what it should be. Who it is has to be known.
                Err(error) if *attribute != Attribute::InstanceId && error.is_permanent() => {
                    eprintln!("{}", explain(&error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let cut = self.metadata.cuts.iter().find(|(of, _)| of == attribute);
            let cut = |text: String| cut.map_or(text.clone(), |(_, cut)| cut.of(&text).to_owned());
            found.entry(*attribute).or_default().extend(texts.into_iter().map(cut));
        }
        let attributes = found
            .into_iter()
            .filter_map(|(attribute, texts)| Some((attribute.key(), attribute::join(texts)?)));
        said.attributes = attributes.collect();
        Ok(said)
    }

    /// Tells the platform that the machine is up, if it wants to hear that.
    ///
    /// # Errors
    /// When it can't be told.
    pub async fn check_in(&mut self) -> Result<(), MetadataError> {
        let Some(check_in) = self.metadata.check_in else { return Ok(()) };
        match check_in {
            CheckIn::Send { method, path, body } => {
                self.begin().await?;
                let method = Method::from_bytes(method.as_bytes()).unwrap_or(Method::POST);
                let url = format!("{}{path}", self.server);
                self.tell(method, url, body.as_bytes(), "application/json").await
            }
            CheckIn::PhoneHome { path, body } => {
                self.begin().await?;
                let found = self.texts(path, &mut BTreeMap::new()).await?;
                let Some(url) = found.into_iter().next() else {
                    let (url, why) = (format!("{}{path}", self.server), "it names no URL".into());
                    return Err(MetadataError::Answer { url, why });
                };
                self.tell(Method::POST, url, body.as_bytes(), "application/json").await
            }
            CheckIn::Wireserver { server } => wireserver::report(&self.asker, server).await,
        }
    }

    /// Begins a session, where the platform wants one.
    async fn begin(&mut self) -> Result<(), MetadataError> {
        let Some(session) = self.metadata.session else { return Ok(()) };
        let url = format!("{}{}", self.server, session.path);
        let odd = || MetadataError::Session(self.server.clone());
        let mut question = Question::get(uri(&url)?);
        question.method = Method::PUT;
        question.headers.extend(header(session.ask.0, session.ask.1.as_bytes()));
        match self.ask(&url, question, LONGEST_WORD).await? {
            Some(word) => {
                let (name, mut value) = header(session.say, word.trim_ascii()).ok_or_else(odd)?;
                value.set_sensitive(true);
                self.session.insert(name, value);
            }
            None if session.optional => {}
            None => {
                let source = AskError::Status(StatusCode::NOT_FOUND);
                return Err(MetadataError::Ask { url, source });
            }
        }
        Ok(())
    }

    /// What a path, and a pointer behind it, lead to.
    async fn texts(
        &self,
        path: &'static str,
        answers: &mut BTreeMap<&'static str, Option<Value>>,
    ) -> Result<Vec<String>, MetadataError> {
        if let Some((path, pointer)) = path.split_once('#') {
            if !answers.contains_key(path) {
                answers.insert(path, self.json(path).await?);
            }
            let answer = answers.get(path).and_then(Option::as_ref);
            let found = answer.map(|answer| attribute::select(answer, pointer));
            return Ok(found.unwrap_or_default().into_iter().flat_map(attribute::texts).collect());
        }
        let Some((list, behind)) = path.split_once('*') else {
            return self.lines(path).await;
        };
        let listed = self.find(list, &[], LONGEST_WORD).await?.unwrap_or_default();
        let listed = String::from_utf8_lossy(&listed);
        let lines = listed.lines().map(|line| line.trim().trim_end_matches('/'));
        // Nothing else can be a part of a path as it is.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+=,@:".contains(&byte);
        let lines = lines.filter(|line| !line.is_empty() && line.bytes().all(plain));
        let mut texts = Vec::new();
        for line in lines.take(MOST_LINES) {
            let found = self.lines(&format!("{list}{line}{behind}")).await?;
            if behind.is_empty() {
                texts.extend(attribute::join(found).map(|text| format!("{line}={text}")));
            } else {
                texts.extend(found);
            }
        }
        Ok(texts)
    }

    /// The lines of a plain answer.
    async fn lines(&self, path: &str) -> Result<Vec<String>, MetadataError> {
        let found = self.find(path, &[], LONGEST_WORD).await?.unwrap_or_default();
        let text = String::from_utf8_lossy(&found);
        Ok(text.lines().filter_map(attribute::shown).collect())
    }

    async fn json(&self, path: &str) -> Result<Option<Value>, MetadataError> {
        let accept = (ACCEPT, HeaderValue::from_static("application/json"));
        let Some(bytes) = self.find(path, &[accept], LONGEST_JSON).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| MetadataError::Answer {
            url: format!("{}{path}", self.server),
            why: error.to_string(),
        })
    }

    /// What is at a path; nothing if there is no such path. What a service does not know yet, or is asked too often,
    /// it is asked again.
    async fn find(
        &self,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        longest: usize,
    ) -> Result<Option<Vec<u8>>, MetadataError> {
        let url = format!("{}{path}", self.server);
        let mut question = Question::get(uri(&url)?);
        let fixed = self.metadata.headers.iter();
        question.headers.extend(fixed.filter_map(|(name, value)| header(name, value.as_bytes())));
        question.headers.extend(headers.iter().cloned());
        for _ in 0..AGAIN {
            match self.ask(&url, question.clone(), longest).await {
                Ok(None) if self.is_not_yet(StatusCode::NOT_FOUND) => {}
                Err(MetadataError::Ask { source: AskError::Status(status), .. })
                    if self.is_not_yet(status) => {}
                answer => return answer,
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.ask(&url, question, longest).await
    }

    fn is_not_yet(&self, status: StatusCode) -> bool {
        status == StatusCode::TOO_MANY_REQUESTS || self.metadata.not_yet.contains(&status.as_u16())
    }

    /// Asks with the words of the session; nothing if there is no such path.
    async fn ask(
        &self,
        url: &str,
        mut question: Question,
        longest: usize,
    ) -> Result<Option<Vec<u8>>, MetadataError> {
        question.headers.extend(self.session.clone());
        let failed = |source| MetadataError::Ask { url: url.to_owned(), source };
        match self.asker.ask(question, longest).await.map_err(failed)? {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, bytes) if status.is_success() => Ok(Some(bytes)),
            (status, _) => Err(failed(AskError::Status(status))),
        }
    }

    async fn tell(
        &self,
        method: Method,
        url: String,
        body: &'static [u8],
        kind: &'static str,
    ) -> Result<(), MetadataError> {
        let mut question = Question::get(uri(&url)?);
        question.method = method;
        question.body = Bytes::from_static(body);
        question.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if self.ask(&url, question, LONGEST_JSON).await?.is_none() {
            let source = AskError::Status(StatusCode::NOT_FOUND);
            return Err(MetadataError::Ask { url, source });
        }
        Ok(())
    }
}

fn uri(url: &str) -> Result<Uri, MetadataError> {
    url.parse().map_err(|_| MetadataError::Ask { url: url.to_owned(), source: AskError::Address })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Read as _,
        net::{Ipv4Addr, TcpListener},
        sync::{Arc, Mutex},
    };
    use stele_platform::{Cut, Server, Session};

    /// Answers each request with the first of these whose request line begins so, and remembers all requests.
    fn server(answers: &'static [(&str, &str)]) -> (&'static str, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&seen);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 4096];
                let Ok(length) = stream.read(&mut request) else { continue };
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let answer = answers.iter().find(|(begin, _)| request.starts_with(begin));
                let answer = answer
                    .map_or("404 Not Found\r\nContent-Length: 0\r\n\r\n", |(_, answer)| answer);
                requests.lock().unwrap().push(request);
                let _gone = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes());
            }
        });
        (Box::leak(format!("http://{address}").into_boxed_str()), seen)
    }

    const SESSION: Session =
        Session { path: "/token", ask: ("x-ttl", "60"), say: "x-token", optional: true };

    fn service(server: &'static str, session: Option<Session>) -> Metadata {
        Metadata {
            server: Server::At(server),
            ipv6: None,
            low_port: false,
            session,
            headers: &[("metadata-flavor", "test")],
            user_data: &["/first", "/user-data"],
            attributes: &[
                (Attribute::InstanceId, "/id"),
                (Attribute::Zone, "/zone"),
                (Attribute::Region, "/all#/at/region"),
                (Attribute::Hostname, "/all#/name"),
            ],
            cuts: &[(Attribute::Region, Cut::Region)],
            network: None,
            not_yet: &[],
            check_in: None,
        }
    }

    fn run<T>(future: impl Future<Output = Result<T, MetadataError>>) -> Result<T, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future).map_err(|error| explain(&error))
    }

    fn at(metadata: &Metadata) -> Service<'_> {
        let Server::At(server) = metadata.server else { panic!("{metadata:?}") };
        Service::new(metadata, server.to_owned(), Vec::new())
    }

    fn ask(metadata: &Metadata) -> Result<Said, String> {
        run(at(metadata).converse())
    }

    #[test]
    fn it_is_passed_on_as_it_is() {
        let mut written = Vec::new();
        let attributes = BTreeMap::from([("zone", "a\"b".to_owned())]);
        let network = Vec::new();
        Said { user_data: Some(b"a\nb".to_vec()), attributes, network }
            .write(&mut written)
            .unwrap();
        let expected =
            "{\"attributes\":{\"zone\":\"a\\\"b\"},\"network\":[],\"userData\":true}\na\nb";
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }

    #[test]
    fn sessions_headers_and_absent_paths() {
        let (address, seen) = server(&[
            ("PUT /token", "200 OK\r\nConnection: close\r\n\r\nsecret\n"),
            ("GET /user-data", "200 OK\r\nConnection: close\r\n\r\nhello"),
            ("GET /id", "200 OK\r\nConnection: close\r\n\r\ni-1\n"),
        ]);
        let said = ask(&service(address, Some(SESSION))).unwrap();
        assert_eq!(said.user_data.as_deref(), Some(&b"hello"[..]));
        assert_eq!(said.attributes, BTreeMap::from([("instanceId", "i-1".to_owned())]));
        let seen = seen.lock().unwrap();
        assert!(seen[0].starts_with("PUT /token") && seen[0].contains("x-ttl: 60"), "{}", seen[0]);
        assert!(!seen[0].contains("metadata-flavor"));
        for request in &seen[1..] {
            assert!(request.contains("x-token: secret\r\n"), "{request}");
            assert!(request.contains("metadata-flavor: test"), "{request}");
        }
    }

    #[test]
    fn a_session_may_be_unknown_to_old_services() {
        let (address, _) = server(&[("GET /id", "200 OK\r\nConnection: close\r\n\r\ni-1")]);
        assert_eq!(ask(&service(address, Some(SESSION))).unwrap().user_data, None);
        let wanted = Session { optional: false, ..SESSION };
        let error = ask(&service(address, Some(wanted))).unwrap_err();
        assert!(error.contains("/token") && error.contains("404"), "{error}");
    }

    #[test]
    fn odd_services_are_told_of() {
        let (address, _) = server(&[("GET /all", "200 OK\r\nConnection: close\r\n\r\n{\"at\"")]);
        assert!(ask(&service(address, None)).unwrap_err().contains("makes no sense"));
        let (address, _) = server(&[("GET /first", "503 Busy\r\nContent-Length: 0\r\n\r\n")]);
        assert!(ask(&service(address, None)).unwrap_err().contains("503"));
        let (address, _) = server(&[(
            "GET /first",
            "302 Found\r\nLocation: http://127.0.0.1:1/x\r\nContent-Length: 0\r\n\r\n",
        )]);
        let error = ask(&service(address, None)).unwrap_err();
        assert!(error.contains("redirected to somebody else"), "{error}");
        let (address, _) = server(&[(
            "GET /first",
            "200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\nshort",
        )]);
        assert!(ask(&service(address, None)).is_err());
        static LONG: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
            format!("200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(MAX_BYTES + 1))
        });
        let answers: Vec<(&str, &str)> = vec![("GET /first", &LONG)];
        let (address, _) = server(answers.leak());
        assert!(ask(&service(address, None)).unwrap_err().contains("at most"));
    }

    #[test]
    fn attributes_are_found_in_json() {
        let (address, seen) = server(&[(
            "GET /all",
            "200 OK\r\nConnection: close\r\n\r\n{\"at\":{\"region\":\"all/par-1\"},\"name\":7}",
        )]);
        let said = ask(&service(address, None)).unwrap();
        let expected = [("hostname", "7".to_owned()), ("region", "par".to_owned())];
        assert_eq!(said.attributes, BTreeMap::from(expected));
        let all = seen.lock().unwrap().iter().filter(|said| said.contains("/all")).count();
        assert_eq!(all, 1, "it is asked once for all that is in it");
        assert!(seen.lock().unwrap().iter().any(|said| said.contains("application/json")));
    }

    #[test]
    fn what_is_listed_is_asked_for_one_by_one() {
        let (address, seen) = server(&[
            ("GET /tags/a ", "200 OK\r\nConnection: close\r\n\r\nfirst\nsecond\n"),
            ("GET /tags/b-2/x ", "200 OK\r\nConnection: close\r\n\r\nthird"),
            ("GET /tags/ ", "200 OK\r\nConnection: close\r\n\r\na\nb-2/\n../c\nd e\n\ngone"),
        ]);
        let attributes = &[(Attribute::Tags, "/tags/*"), (Attribute::PublicAddress, "/tags/*/x")];
        let said = ask(&Metadata { attributes, ..service(address, None) }).unwrap();
        let expected =
            [("publicAddress", "third".to_owned()), ("tags", "a=first, second".to_owned())];
        assert_eq!(said.attributes, BTreeMap::from(expected));
        assert!(
            seen.lock().unwrap().iter().all(|said| !said.contains("..") && !said.contains("d e"))
        );
    }

    #[test]
    fn a_network_that_is_not_told_costs_nothing_else() {
        let (address, _) = server(&[
            ("GET /net", "400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
            ("GET /user-data", "200 OK\r\nConnection: close\r\n\r\nhello"),
        ]);
        let metadata = Metadata { network: Some(("/net", "gcp")), ..service(address, None) };
        assert_eq!(ask(&metadata).unwrap().user_data.as_deref(), Some(&b"hello"[..]));
        let (address, _) = server(&[("GET /net", "503 Busy\r\nContent-Length: 0\r\n\r\n")]);
        let metadata = Metadata { network: Some(("/net", "gcp")), ..service(address, None) };
        assert!(ask(&metadata).unwrap_err().contains("503"));
    }

    #[test]
    fn redirects_within_the_service_are_followed() {
        let (address, _) = server(&[
            ("GET /first", "302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"),
            ("GET /there", "200 OK\r\nConnection: close\r\n\r\nhello"),
        ]);
        assert_eq!(ask(&service(address, None)).unwrap().user_data.as_deref(), Some(&b"hello"[..]));
        let (address, _) =
            server(&[("GET /first", "302 Found\r\nLocation: /first\r\nContent-Length: 0\r\n\r\n")]);
        assert!(ask(&service(address, None)).unwrap_err().contains("more than three"));
    }

    #[test]
    fn what_is_not_there_yet_is_asked_for_again() {
        let (address, seen) = server(&[]);
        let metadata = Metadata {
            user_data: &["/first"],
            attributes: &[],
            not_yet: &[404],
            ..service(address, None)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let said = runtime.block_on(at(&metadata).converse()).unwrap();
        assert_eq!((said, seen.lock().unwrap().len()), (Said::default(), 4));
    }

    #[test]
    fn platforms_are_told_that_the_machine_is_up() {
        let (address, seen) = server(&[
            ("PUT /token", "200 OK\r\nConnection: close\r\n\r\nsecret"),
            ("PATCH /state", "200 OK\r\nContent-Length: 0\r\n\r\n"),
        ]);
        let send = CheckIn::Send { method: "PATCH", path: "/state", body: "{\"up\":1}" };
        let metadata = Metadata { check_in: Some(send), ..service(address, Some(SESSION)) };
        run(at(&metadata).check_in()).unwrap();
        let told = seen.lock().unwrap().pop().unwrap();
        assert!(told.contains("x-token: secret") && told.ends_with("{\"up\":1}"), "{told}");
        let home = CheckIn::PhoneHome { path: "/all#/home", body: "{}" };
        let metadata = Metadata { check_in: Some(home), ..service(address, Some(SESSION)) };
        assert!(run(at(&metadata).check_in()).unwrap_err().contains("names no URL"));
        let lost = CheckIn::Send { method: "POST", path: "/lost", body: "{}" };
        let metadata = Metadata { check_in: Some(lost), ..service(address, None) };
        assert!(run(at(&metadata).check_in()).unwrap_err().contains("404"));
    }

    #[test]
    fn the_goal_state_of_azure_is_answered() {
        let goal = "<?xml version=\"1.0\"?><GoalState><Version>2012-11-30</Version><Incarnation>3</Incarnation><Container><ContainerId>c-1</ContainerId>\
            <RoleInstanceList><RoleInstance><InstanceId>i.1</InstanceId></RoleInstance></RoleInstanceList></Container></GoalState>";
        let answer = format!("200 OK\r\nConnection: close\r\n\r\n{goal}");
        let answers: Vec<(&str, &str)> = vec![
            ("GET /machine/?comp=goalstate", answer.leak()),
            ("POST /machine/?comp=health", "200 OK\r\nContent-Length: 0\r\n\r\n"),
        ];
        let (address, seen) = server(answers.leak());
        let wire = CheckIn::Wireserver { server: address };
        let metadata = Metadata { check_in: Some(wire), ..service(address, None) };
        run(at(&metadata).check_in()).unwrap();
        let told = seen.lock().unwrap().pop().unwrap();
        for needle in [
            "x-ms-version: 2012-11-30",
            "<GoalStateIncarnation>3<",
            "<ContainerId>c-1<",
            "<InstanceId>i.1<",
            "<State>Ready<",
        ] {
            assert!(told.contains(needle), "{needle}: {told}");
        }
    }
}
