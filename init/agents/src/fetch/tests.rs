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
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.replace("SELF", &address.to_string()).as_bytes()).unwrap();
        }
    });
    address
}

fn get(answers: &[&str], max: u64) -> Result<String, String> {
    let address = server(answers.iter().map(|answer| (*answer).to_owned()).collect());
    let url = parse(&format!("http://{address}/stele.efi")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut output = Vec::new();
    match runtime.block_on(fetch(url, b"", max, &mut output)) {
        Ok(size) => {
            assert_eq!(size, output.len() as u64);
            Ok(String::from_utf8(output).unwrap())
        }
        Err(error) => Err(sentence(&error)),
    }
}

const REDIRECT: &str = "HTTP/1.1 302 Found\r\nLocation: http://SELF/next\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
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
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\nConnection: close\r\n\r\nhello";
    assert!(get(&[cut], 99).unwrap_err().starts_with("receiving it: "));
    let elsewhere = "HTTP/1.1 302 Found\r\nLocation: ftp://SELF/next\r\nContent-Length: 0\r\n\r\n";
    assert!(get(&[elsewhere], 9).is_err());
    assert!(get(&["garbage\r\n\r\n"], 9).unwrap_err().starts_with("asking for it: "));
}

#[test]
fn a_closed_port() {
    let address = server(Vec::new());
    let url = parse(&format!("http://{address}/")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The listener goes when its thread ends, which it does at once.
    let error = runtime.block_on(fetch(url, b"", 9, &mut Vec::new())).unwrap_err();
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
