// SPDX-License-Identifier: Apache-2.0
//! Metadata: what a platform's service knows of this machine, and the user-data that it has for it.
//!
//! One conversation: a session where the platform wants one, the user-data, the attributes. A path that is not there is an
//! answer; everything else that goes wrong ends the conversation, and PID 1 begins another later. Nobody but the service
//! is asked: redirects lead nowhere else.

use crate::fetch::{FetchError, builder, send, whole};
use reqwest::{
    Client, Method, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect::{Attempt, Policy},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};
use stele_config::MAX_BYTES;
use stele_platform::Metadata;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one answer may take, however it comes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const REDIRECTS: usize = 3;
/// The longest session and the longest attribute.
const LONGEST_WORD: u64 = 4096;

/// What the service said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The user-data, if there is any.
    pub user_data: Option<Vec<u8>>,
    /// What it knows of the machine.
    pub attributes: BTreeMap<&'static str, String>,
}

impl Said {
    /// A line of JSON, `{"attributes":{…},"userData":BOOL}`, and behind it the user-data as it is.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn write(&self, output: &mut impl Write) -> io::Result<()> {
        let line = json!({ "attributes": self.attributes, "userData": self.user_data.is_some() });
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
        source: Box<FetchError>,
    },
    /// What the service calls a session can't be said in a header.
    #[error("the session that {0} gave can't be used")]
    Session(String),
    /// The client could not be made.
    #[error(transparent)]
    Client(FetchError),
}

/// Has the conversation.
///
/// # Errors
/// When the service does not answer, or not in order.
pub async fn converse(metadata: &Metadata) -> Result<Said, MetadataError> {
    let mut service = Service::new(metadata)?;
    if let Some(session) = metadata.session {
        let headers = [session.ask];
        match service.ask(Method::PUT, session.path, &headers, LONGEST_WORD).await? {
            Some(word) => service.say(session.say, &word)?,
            None if session.optional => {}
            None => {
                return Err(service.failed(session.path, FetchError::Status(StatusCode::NOT_FOUND)));
            }
        }
    }
    let mut said = Said::default();
    for path in metadata.user_data {
        let found = service.ask(Method::GET, path, metadata.headers, MAX_BYTES as u64).await?;
        if let Some(bytes) = found.filter(|bytes| !bytes.is_empty()) {
            said.user_data = Some(bytes);
            break;
        }
    }
    for (attribute, path) in metadata.attributes {
        let Some(bytes) = service.ask(Method::GET, path, metadata.headers, LONGEST_WORD).await?
        else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        let text: String = text.trim().chars().filter(|char| !char.is_control()).collect();
        if !text.is_empty() {
            said.attributes.insert(attribute.key(), text);
        }
    }
    Ok(said)
}

struct Service {
    server: &'static str,
    client: Client,
    /// The session, once there is one.
    session: HeaderMap,
}

impl Service {
    fn new(metadata: &Metadata) -> Result<Self, MetadataError> {
        // Services are asked without TLS: no roots are needed.
        let client = builder(&[])
            .map_err(MetadataError::Client)?
            .redirect(Policy::custom(redirect))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(IDLE_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .build()
            .map_err(|source| MetadataError::Client(FetchError::Client(source)))?;
        Ok(Self { server: metadata.server, client, session: HeaderMap::new() })
    }

    fn say(&mut self, header: &'static str, word: &[u8]) -> Result<(), MetadataError> {
        let mut value = HeaderValue::from_bytes(word.trim_ascii())
            .map_err(|_| MetadataError::Session(self.server.to_owned()))?;
        value.set_sensitive(true);
        let name = HeaderName::from_bytes(header.as_bytes())
            .map_err(|_| MetadataError::Session(self.server.to_owned()))?;
        self.session.insert(name, value);
        Ok(())
    }

    /// Asks for what is at a path; nothing if there is no such path.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &'static str)],
        longest: u64,
    ) -> Result<Option<Vec<u8>>, MetadataError> {
        let failed = |source| self.failed(path, source);
        let url = format!("{}{path}", self.server);
        let mut request = self.client.request(method, url).headers(self.session.clone());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = send(request).await.map_err(failed)?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                whole(response, longest).await.map(Some).map_err(failed)
            }
            status => Err(failed(FetchError::Status(status))),
        }
    }

    fn failed(&self, path: &str, source: FetchError) -> MetadataError {
        MetadataError::Ask { url: format!("{}{path}", self.server), source: Box::new(source) }
    }
}

fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let place = |url: &reqwest::Url| {
        (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default())
    };
    let first = attempt.previous().first().map(place);
    if first != Some(place(attempt.url())) {
        return attempt.error("redirected to somebody else");
    }
    if attempt.previous().len() > REDIRECTS {
        return attempt.error(format!("more than {REDIRECTS} redirects"));
    }
    attempt.follow()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::explain;
    use std::{
        io::Read as _,
        net::{Ipv4Addr, TcpListener},
        sync::{Arc, Mutex},
    };
    use stele_platform::{Attribute, Session};

    /// Answers each request with the first of these whose request line begins so, and remembers all requests.
    fn server(answers: &'static [(&str, &str)]) -> (&'static str, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&seen);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap();
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
            server,
            session,
            headers: &[("metadata-flavor", "test")],
            user_data: &["/first", "/user-data"],
            attributes: &[(Attribute::InstanceId, "/id"), (Attribute::Zone, "/zone")],
        }
    }

    fn ask(metadata: &Metadata) -> Result<Said, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(converse(metadata)).map_err(|error| explain(&error))
    }

    #[test]
    fn it_is_passed_on_as_it_is() {
        let mut written = Vec::new();
        let attributes = BTreeMap::from([("zone", "a\"b".to_owned())]);
        Said { user_data: Some(b"a\nb".to_vec()), attributes }.write(&mut written).unwrap();
        let expected = "{\"attributes\":{\"zone\":\"a\\\"b\"},\"userData\":true}\na\nb";
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
        assert!(ask(&service(address, None)).unwrap_err().contains("more than"));
    }
}
