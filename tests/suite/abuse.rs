//! Callers that mean harm or are broken: they are given up in their time, and those that are well do not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use claviger_client::{Client, MacGenerate, MacResult};
use futures_util::StreamExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::daemon::Daemon;
use crate::load::{CMAC, MAC, MESSAGE, generic, into, reference};
use crate::reload::configuration;

/// What the daemon of these tests gives a request, and the handshake and the first request always have.
const REQUEST: u64 = 4;
const HANDSHAKE: u64 = 10;

async fn daemon() -> Daemon {
    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let with_limits = format!("{}\n[limits]\nrequest_seconds = {REQUEST}\n", configuration(&daemon));
    daemon.serve(&with_limits)
}

fn address(daemon: &Daemon) -> String {
    daemon.connection("clearing").url.trim_start_matches("https://").to_owned()
}

/// TLS as the daemon wants it, with somebody's certificate or none.
fn tls(daemon: &Daemon, name: Option<&str>, alpn: &str) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let ca = daemon.connection("clearing").ca;
    CertificateDer::pem_file_iter(ca).unwrap().for_each(|certificate| roots.add(certificate.unwrap()).unwrap());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match name {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let connection = daemon.connection(name);
            let chain = CertificateDer::pem_file_iter(connection.certificate).unwrap().map(Result::unwrap).collect();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(connection.key).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn connect(daemon: &Daemon) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address(daemon)).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    tls(daemon, Some("clearing"), "http/1.1").connect(name, stream).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_reaches_a_caller_that_is_still_sending() {
    let daemon = daemon().await;
    // None of these needs the body.
    for (request, kind, status) in [
        ("POST /v1/transactions/verify?tenant=demo&scheme=cjt166", "text/html", "415"),
        ("POST /v1/nothing", "application/json", "404"),
        ("PUT /v1/mac/verify", "application/json", "405"),
    ] {
        let mut stream = connect(&daemon).await;
        // Twice on one connection: it goes on afterwards.
        for time in 1..=2 {
            let body = [b' '; 100_000];
            let head = format!(
                "{request} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            for part in body.chunks(20_000) {
                stream.write_all(part).await.unwrap();
                stream.flush().await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let mut answer = vec![0; 16 << 10];
            let length = stream.read(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}, time {time}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_address_or_a_host_cannot_be_is_a_problem_too() {
    let daemon = daemon().await;
    let mut stream = connect(&daemon).await;
    for (head, code) in [
        ("GET /v1/keys/%FF HTTP/1.1\r\nhost: x\r\n\r\n", "bad_path"),
        ("GET /v1/keys/%00 HTTP/1.1\r\nhost: x\r\n\r\n", "no_key"),
        ("GET /healthz HTTP/1.1\r\n\r\n", "bad_host"),
        ("GET /healthz HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", "bad_host"),
    ] {
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 16 << 10];
        let length = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        let problem = answer.contains("application/problem+json") && answer.contains(&format!(":{code}\""));
        assert!(answer.starts_with("HTTP/1.1 4") && problem, "{head}{answer}");
    }
}

/// How long the daemon keeps a connection that does something slowly.
async fn held<S: AsyncReadExt + AsyncWriteExt + Unpin>(mut stream: S, drip: &[u8], reads: bool) -> Duration {
    let begun = Instant::now();
    let mut drip = drip.iter().cycle();
    let mut taken = [0; 1];
    loop {
        if let Some(byte) = drip.next()
            && stream.write_all(&[*byte]).await.is_err()
        {
            return begun.elapsed();
        }
        let _ = stream.flush().await;
        let pause = Duration::from_millis(200);
        match tokio::time::timeout(pause, stream.read(&mut taken)).await {
            Ok(Ok(0) | Err(_)) if reads => return begun.elapsed(),
            Ok(Ok(_)) => tokio::time::sleep(pause).await,
            _ => {}
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "held for a minute");
    }
}

/// A caller that is well: how long its calls take, until it is told to stop.
fn healthy(daemon: &Daemon, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<Duration>> {
    let (client, stop) = (daemon.client("card-management"), Arc::clone(stop));
    tokio::spawn(async move {
        let mut took = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            one_mac(&client).await;
            took.push(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        took
    })
}

async fn one_mac(client: &Client) {
    let messages = vec![MESSAGE.to_owned()];
    let request = MacGenerate { key: reference(), padding: "none".to_owned(), length: None, messages };
    let made: MacResult = client.post("/v1/mac/generate", &request).await.unwrap();
    assert_eq!(made.macs, [MAC]);
}

/// What the healthy saw meanwhile: `p99` is of a debug build on a busy machine, so it is told, and bounded widely.
async fn well(healthy: tokio::task::JoinHandle<Vec<Duration>>, stop: &AtomicBool, what: &str) {
    stop.store(true, Ordering::Relaxed);
    let mut took = healthy.await.unwrap();
    took.sort();
    let p99 = took[took.len() * 99 / 100];
    println!("{what}: {} calls of the healthy, p50 {:?}, p99 {p99:?}", took.len(), took[took.len() / 2]);
    assert!(took.len() > 50 && p99 < Duration::from_secs(2), "{what}: {} calls, p99 {p99:?}", took.len());
}

/// Kibibytes of memory in use.
fn memory(daemon: &Daemon) -> u64 {
    let about = std::fs::read_to_string(format!("/proc/{}/status", daemon.process())).unwrap();
    let line = about.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn none_of_two_hundred_slow_callers_of_eight_kinds_is_held_past_its_time() {
    let daemon = Arc::new(daemon().await);
    let stop = Arc::new(AtomicBool::new(false));
    let healthy = healthy(&daemon, &stop);
    let mut callers = Vec::new();
    for number in 0..200 {
        let daemon = Arc::clone(&daemon);
        callers.push(tokio::spawn(async move {
            let tcp = async || TcpStream::connect(address(&daemon)).await.unwrap();
            let name = || ServerName::try_from("127.0.0.1").unwrap();
            let head = "POST /v1/mac/verify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9000\r\n\r\n";
            let (kind, held, allowed) = match number % 8 {
                0 => ("silent", held(tcp().await, b"", true).await, HANDSHAKE),
                1 => {
                    let mut stream = tcp().await;
                    stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]).await.unwrap();
                    ("half a ClientHello", held(stream, b"", true).await, HANDSHAKE)
                }
                2 => ("idle in TLS", held(connect(&daemon).await, b"", true).await, HANDSHAKE),
                3 => ("a slow header", held(connect(&daemon).await, b"G", true).await, HANDSHAKE),
                4 => {
                    let mut stream = connect(&daemon).await;
                    stream.write_all(head.as_bytes()).await.unwrap();
                    // The answer is one byte a read away from the connection's end.
                    ("a slow body", held_to_answer(stream).await, REQUEST)
                }
                5 => ("a slow reader", slow_reader(&daemon).await, 3 * REQUEST),
                6 => {
                    let begun = Instant::now();
                    // In TLS 1.3 the client learns only at its first read that it is not let in.
                    if let Ok(mut stream) = tls(&daemon, None, "http/1.1").connect(name(), tcp().await).await {
                        assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(read) if read > 0));
                    }
                    ("no certificate", begun.elapsed(), HANDSHAKE)
                }
                _ => {
                    let begun = Instant::now();
                    for _ in 0..10 {
                        let _ = tls(&daemon, Some("clearing"), "h2").connect(name(), tcp().await).await;
                    }
                    ("ten handshakes", begun.elapsed() / 10, HANDSHAKE)
                }
            };
            // A debug build beside other tests: some seconds of the machine's own.
            assert!(held < Duration::from_secs(allowed + 5), "{kind} was held for {held:?}");
            (kind, held)
        }));
    }
    let mut longest = std::collections::BTreeMap::new();
    for caller in callers {
        let (kind, held) = caller.await.unwrap();
        let longest = longest.entry(kind).or_insert(held);
        *longest = (*longest).max(held);
    }
    println!("{longest:?}");
    assert_eq!(longest.len(), 8);
    well(healthy, &stop, "beside 200 slow callers").await;
}

/// Until something is answered, or the connection ends.
async fn held_to_answer(mut stream: TlsStream<TcpStream>) -> Duration {
    let begun = Instant::now();
    let mut answer = [0; 64];
    loop {
        let _ = stream.write_all(b"x").await;
        match tokio::time::timeout(Duration::from_millis(200), stream.read(&mut answer)).await {
            Err(_) => {}
            Ok(_) => return begun.elapsed(),
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "held for a minute");
    }
}

/// Asks for more than fits into any buffer, by one connection, and takes a byte now and then.
async fn slow_reader(daemon: &Daemon) -> Duration {
    let mut stream = connect(daemon).await;
    let begun = Instant::now();
    let ask = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(400);
    // Answers wait for each other in the order of the questions, so the daemon soon takes no more of these.
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(ask.as_bytes())).await;
    let mut taken = [0; 1];
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if let Ok(Ok(0) | Err(_)) = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut taken)).await {
            return begun.elapsed();
        }
        // What was under way arrives first; that the daemon has let go shows at its side.
        if !is_connected(daemon, &stream) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "held for a minute");
    }
}

/// Whether the daemon's side of a connection is still open, by the kernel's table.
fn is_connected(daemon: &Daemon, stream: &TlsStream<TcpStream>) -> bool {
    let ours = stream.get_ref().0.local_addr().unwrap().port();
    let port: u16 = address(daemon).rsplit(':').next().unwrap().parse().unwrap();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let (here, there) = (format!(":{port:04X}"), format!(":{ours:04X}"));
    table.lines().any(|line| {
        let mut cells = line.split_whitespace().skip(1);
        let (local, remote, state) =
            (cells.next().unwrap_or(""), cells.next().unwrap_or(""), cells.next().unwrap_or(""));
        local.ends_with(&here) && remote.ends_with(&there) && state == "01"
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_bounded_whatever_comes() {
    let daemon = daemon().await;
    let stop = Arc::new(AtomicBool::new(false));
    let healthy = healthy(&daemon, &stop);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = memory(&daemon);

    // More connections than there are places, held open and silent; other tests of this process need files too.
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: files.maximum, ..files };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most).unwrap();
    let mut idle = Vec::new();
    // Ten thousand, or as many as this process may have open beside what other tests need.
    let wanted = files.maximum.map_or(10_000, |most| most.saturating_sub(2000).min(10_000));
    assert!(wanted >= 2000, "`ulimit -Hn` is below 4000");
    for _ in 0..wanted {
        if let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address(&daemon))).await
        {
            idle.push(stream);
        }
    }
    assert!(idle.len() as u64 > wanted * 9 / 10, "{} connections", idle.len());
    println!("{} connections are held open: {} KiB more", idle.len(), memory(&daemon).saturating_sub(before));
    drop(idle);

    // Bodies that are too large, too deep, or of no kind.
    let clearing = daemon.client("clearing");
    let parameters = crate::main_job::a_day();
    for body in [vec![b'['; 8 << 20], "{\"a\":".repeat(200_000).into_bytes(), vec![0xFF; 1 << 20]] {
        let path = "/v1/transactions/verify";
        let pieces = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from(body))]);
        assert!(clearing.stream(path, &parameters, "application/json", pieces).await.is_err());
    }
    // One line of CSV that never ends, and Arrow that breaks off in the middle of what it promised.
    let line =
        std::iter::once(b"record_id,city_code,asn,tac\n".to_vec()).chain((0..256).map(|_| vec![b'7'; 256 << 10]));
    let endless = futures_util::stream::iter(line.map(|piece| Ok::<_, std::io::Error>(bytes::Bytes::from(piece))));
    if let Ok(answer) = clearing.stream("/v1/transactions/verify", &parameters, "text/csv", endless).await {
        let pieces: Vec<_> = answer.pieces.collect().await;
        assert!(pieces.iter().any(Result::is_err), "an endless line was answered");
    }
    let promise = [&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F][..], &[0; 64][..]].concat();
    let broken = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from(promise))]);
    let arrow = "application/vnd.apache.arrow.stream";
    assert!(clearing.stream("/v1/transactions/verify", &parameters, arrow, broken).await.is_err());

    // What is no TLS.
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x80; 512], &[0x16, 3, 1, 0xFF, 0xFF, 1]] {
        let mut stream = TcpStream::connect(address(&daemon)).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut end = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(HANDSHAKE + 5), stream.read_to_end(&mut end)).await.unwrap();
    }

    // HTTP/2: streams that are opened and reset at once.
    rapid_reset(&daemon).await;

    let after = memory(&daemon);
    println!("{before} KiB before, {after} KiB after");
    assert!(after < before + (96 << 10), "{before} KiB before, {after} KiB after");
    well(healthy, &stop, "beside what means harm").await;
    one_mac(&daemon.client("card-management")).await;
}

/// Ten thousand streams, each reset before it can be answered; the daemon ends the connection when it has seen enough.
async fn rapid_reset(daemon: &Daemon) {
    let stream = TcpStream::connect(address(daemon)).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = tls(daemon, Some("clearing"), "h2").connect(name, stream).await.unwrap();
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let len = (payload.len() as u32).to_be_bytes();
        [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let mut sent = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    // GET https / with no authority, from the static table.
    let get = [0x82, 0x87, 0x84];
    for number in 0..10_000u32 {
        sent.extend(frame(1, 5, 2 * number + 1, &get));
        sent.extend(frame(3, 0, 2 * number + 1, &8u32.to_be_bytes()));
    }
    let begun = Instant::now();
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.write_all(&sent)).await;
    let mut answered = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answered)).await.is_ok();
    let mut rest = &answered[..];
    let mut farewell = None;
    while let Some(([a, b, c, kind, ..], _)) = rest.split_first_chunk::<9>() {
        let len = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let payload = rest.get(9..9 + len).unwrap_or_default();
        // GOAWAY: the last stream, then why.
        farewell = farewell.or((*kind == 7).then(|| payload.get(4..8).map(<[u8]>::to_vec)).flatten());
        rest = rest.get(9 + len..).unwrap_or_default();
    }
    println!("ten thousand streams reset: ended {ended} after {:?}, {farewell:?}", begun.elapsed());
    assert!(ended, "the connection goes on");
    // ENHANCE_YOUR_CALM, RFC 9113, section 7; whoever still writes may find the connection closed before it reads why.
    assert!(farewell.is_none_or(|why| why == [0, 0, 0, 11]));
}
