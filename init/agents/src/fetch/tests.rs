// SPDX-License-Identifier: Apache-2.0
//! Against a server in this process that says exactly what it is told to.

use super::*;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Answers connections with these bytes, one after the other, then no more.
fn server(answers: Vec<String>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, answer) in answers.into_iter().enumerate() {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            stream
                .write_all(
                    answer
                        .replace("SELF", &address.to_string())
                        .replace("NEXT", &number.to_string())
                        .as_bytes(),
                )
                .unwrap();
        }
    });
    address
}

fn run(answers: &[&str], wanted: Wanted) -> Result<String, String> {
    let address = server(answers.iter().map(|answer| (*answer).to_owned()).collect());
    let origin = Origin::Url(parse(&format!("http://{address}/stele.efi")).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut output = Vec::new();
    let wanted = Wanted { patience: (2, Duration::from_millis(1)), ..wanted };
    match runtime.block_on(fetch(&client(b"").unwrap(), origin, wanted, &mut output)) {
        Ok(size) => {
            assert_eq!(size, wanted.from + output.len() as u64);
            Ok(String::from_utf8(output).unwrap())
        }
        Err(error) => Err(sentence(&error)),
    }
}

fn get(answers: &[&str], max: u64) -> Result<String, String> {
    run(answers, Wanted::up_to(max))
}

const REDIRECT: &str = "HTTP/1.1 302 Found\r\nLocation: http://SELF/NEXT\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

#[test]
fn a_body() {
    assert_eq!(get(&[HELLO], 5).unwrap(), "hello");
    assert_eq!(
        get(&[REDIRECT, REDIRECT, REDIRECT, REDIRECT, REDIRECT, HELLO], 5).unwrap(),
        "hello"
    );
}

#[test]
fn refusals_say_why() {
    assert_eq!(
        get(&["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], 9).unwrap_err(),
        "the server answered 404 Not Found"
    );
    assert_eq!(get(&[HELLO], 4).unwrap_err(), "it has more than the 4 bytes that are taken: 5");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(get(&[chunked], 4).unwrap_err(), "it has more than the 4 bytes that are taken");
    assert!(get(&[REDIRECT; 6], 9).unwrap_err().contains("more than 5 redirects"));
    let circle = REDIRECT.replace("/NEXT", "/stele.efi");
    let error = get(&[REDIRECT, &circle], 9).unwrap_err();
    assert!(error.contains("redirected in a circle: back to http://127.0.0.1:"), "{error}");
    let elsewhere = "HTTP/1.1 302 Found\r\nLocation: ftp://SELF/next\r\nContent-Length: 0\r\n\r\n";
    assert!(get(&[elsewhere], 9).is_err());
    assert!(get(&["garbage\r\n\r\n"], 9).unwrap_err().starts_with("asking for it: "));
}

const CUT: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"a\"\r\nConnection: close\r\n\r\n0123";
const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789";

fn rest(from: usize, to: usize) -> String {
    format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/10\r\nConnection: close\r\n\r\n{}",
        10 - from,
        9,
        &"0123456789"[from..to]
    )
}

#[test]
fn what_breaks_off_is_gone_on_from() {
    assert_eq!(get(&[CUT, &rest(4, 10)], 10).unwrap(), "0123456789");
    assert_eq!(get(&[CUT, &rest(4, 6), &rest(6, 8), &rest(8, 10)], 10).unwrap(), "0123456789");
    // A server that can't begin in the middle sends it all again.
    assert_eq!(get(&[CUT, WHOLE], 10).unwrap(), "0123456789");
    // One that is overloaded for a while.
    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(get(&[CUT, busy, &rest(4, 10)], 10).unwrap(), "0123456789");
    assert_eq!(
        get(&[busy, WHOLE], 10).unwrap_err(),
        "the server answered 503 Busy".replace("Busy", "Service Unavailable")
    );
}

#[test]
fn what_does_not_get_on_is_given_up() {
    let error = get(&[CUT], 10).unwrap_err();
    assert!(
        error.starts_with("giving up after 2 tries that brought nothing, 4 bytes being here: "),
        "{error}"
    );
    let gone = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(get(&[CUT, gone], 10).unwrap_err(), "the server answered 404 Not Found");
    let other = rest(4, 10).replace("/10", "/11");
    assert_eq!(
        get(&[CUT, &other], 99).unwrap_err(),
        "the server has something else now than before"
    );
    let other = WHOLE.replace("Connection", "ETag: \"b\"\r\nConnection");
    assert_eq!(
        get(&[CUT, &other], 99).unwrap_err(),
        "the server has something else now than before"
    );
}

#[test]
fn from_the_middle_on() {
    let from = |from| Wanted { from, ..Wanted::up_to(10) };
    assert_eq!(run(&[&rest(4, 10)], from(4)).unwrap(), "456789");
    assert_eq!(run(&[WHOLE], from(4)).unwrap(), "456789");
    let nothing = "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */10\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(run(&[nothing], from(10)).unwrap(), "");
    assert_eq!(
        run(&[nothing], from(11)).unwrap_err(),
        "the server has less of it than came before"
    );
    assert_eq!(run(&[WHOLE], from(12)).unwrap_err(), "the server has less of it than came before");
}

#[test]
fn no_faster_than_wanted() {
    let start = Instant::now();
    let wanted = Wanted { rate: Some(50), ..Wanted::up_to(10) };
    assert_eq!(run(&[WHOLE], wanted).unwrap(), "0123456789");
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[test]
fn where_signatures_are() {
    let url = parse("https://host/a/stele.efi?token=x").unwrap();
    assert_eq!(signature_of(&url).as_str(), "https://host/a/stele.efi.sig?token=x");
}

#[test]
fn a_closed_port() {
    let address = server(Vec::new());
    let url = parse(&format!("http://{address}/")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The listener goes when its thread ends, which it does at once.
    let client = client(b"").unwrap();
    let wanted = Wanted::up_to(9);
    let mut output = Vec::new();
    let fetched = fetch(&client, Origin::Url(url), wanted, &mut output);
    let error = runtime.block_on(fetched).unwrap_err();
    assert!(sentence(&error).starts_with("asking for it: "), "{}", sentence(&error));
}

#[test]
fn urls() {
    assert_eq!(
        sentence(&parse("file:///etc/passwd").unwrap_err()),
        "only http and https can be fetched, not file"
    );
    assert!(sentence(&parse("stele.efi").unwrap_err()).starts_with("this is not a URL: "));
    assert_eq!(shown(&parse("https://me:secret@host/x").unwrap()), "https://me:%E2%80%A6@host/x");
}

#[test]
fn what_a_server_does_not_have_is_told_from_its_trouble() {
    let absent =
        |status: u16| FetchError::Status(StatusCode::from_u16(status).unwrap()).is_absence();
    assert!([400, 401, 403, 404, 410].into_iter().all(absent));
    assert!(![408, 425, 429, 500, 502, 503].into_iter().any(absent));
    assert!(!parse("file:///x").unwrap_err().is_absence());
}
