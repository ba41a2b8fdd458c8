//! What the peer has said counts for more than what could not be sent to it.

use std::future::poll_fn;

use hyper::rt::{Read as _, Write as _};
use openssl::ssl::{Ssl, SslAcceptor, SslConnector, SslMethod};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_openssl::SslStream;

use super::*;
use crate::pki::{Authority, Leaf, Profile};
use crate::transport::bundle::Bundle;

type Server = SslStream<TcpStream>;

/// Both ends of a TLS 1.2 connection: in TLS 1.3 tickets would be under way as well.
async fn pair() -> (Io, Server) {
    let authority = Authority::new(&Profile::new("test CA").unwrap()).unwrap();
    let identity = authority.issue(&Leaf::server(["a.example"]).unwrap()).unwrap();
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate(identity.certificate()).unwrap();
    acceptor.set_private_key(identity.key()).unwrap();
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.cert_store_mut().add_cert(authority.certificate().to_owned()).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    let ssl = connector.build().configure().unwrap().into_ssl("a.example").unwrap();
    let mut near = Secured::new(ssl, Bundle::new(near)).unwrap();
    let mut far = Server::new(Ssl::new(acceptor.build().context()).unwrap(), far).unwrap();
    let (met, accepted) = tokio::join!(Pin::new(&mut near).connect(), Pin::new(&mut far).accept());
    met.unwrap();
    accepted.unwrap();
    let role = Role { peer: "a".to_owned(), name: "a.example".to_owned(), identity: false };
    (Io::tls(near, role), far)
}

/// More than half a record, so that the first flush lets it stay, and a whole one, so that it has been
/// encrypted.
async fn write_without_leaving(io: &mut Io) {
    let written = poll_fn(|cx| Pin::new(&mut *io).poll_write(cx, &[0; RECORD + 1])).await.unwrap();
    assert_eq!(written, RECORD + 1);
    flush(io).await.unwrap();
}

async fn flush(io: &mut Io) -> io::Result<()> {
    poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await
}

async fn read(io: &mut Io) -> io::Result<Vec<u8>> {
    let mut room = [0; 100];
    let mut buf = rt::ReadBuf::new(&mut room);
    poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, buf.unfilled())).await?;
    Ok(buf.filled().to_vec())
}

/// From now on nothing can be sent, as after a reset; what has arrived can still be read.
fn break_the_way_out(io: &Io) {
    let Stream::Tls(protected) = &io.0.inner().stream else { panic!("not TLS") };
    let socket = protected.stream.get_ref().socket();
    SockRef::from(socket).shutdown(std::net::Shutdown::Write).unwrap();
}

/// Waits until something has arrived.
async fn heard(io: &Io) {
    let Stream::Tls(protected) = &io.0.inner().stream else { panic!("not TLS") };
    protected.stream.get_ref().socket().readable().await.unwrap();
}

#[tokio::test]
async fn what_was_read_is_told_though_nothing_can_be_sent() {
    let (mut io, mut server) = pair().await;
    write_without_leaving(&mut io).await;
    break_the_way_out(&io);
    server.write_all(b"the last words").await.unwrap();
    heard(&io).await;
    assert_eq!(read(&mut io).await.unwrap(), b"the last words");
    // Its twin: when there are no more words, that is told.
    assert_eq!(read(&mut io).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_flush_that_fails_leaves_it_to_the_reader_to_say_why() {
    let (mut io, mut server) = pair().await;
    write_without_leaving(&mut io).await;
    break_the_way_out(&io);
    // What cannot be decrypted: OpenSSL knows why that is the end.
    server.get_mut().write_all(&[23, 3, 3, 0, 3, 1, 2, 3]).await.unwrap();
    heard(&io).await;
    flush(&mut io).await.unwrap();
    read(&mut io).await.unwrap_err();
    assert!(io.autopsy().finding().is_some());
}

#[tokio::test]
async fn a_flush_that_has_to_make_room_first_is_no_other() {
    let (mut io, mut server) = pair().await;
    // All that finds room as it leaves OpenSSL, and one record more.
    let full = [0; 5 * RECORD];
    let written = poll_fn(|cx| Pin::new(&mut io).poll_write(cx, &full)).await.unwrap();
    assert_eq!(written, full.len());
    flush(&mut io).await.unwrap();
    break_the_way_out(&io);
    server.get_mut().write_all(&[23, 3, 3, 0, 3, 1, 2, 3]).await.unwrap();
    heard(&io).await;
    flush(&mut io).await.unwrap();
    read(&mut io).await.unwrap_err();
    assert!(io.autopsy().finding().is_some());
}

#[tokio::test]
async fn a_flush_that_fails_is_told_once_nobody_has_said_why() {
    let (mut io, server) = pair().await;
    write_without_leaving(&mut io).await;
    break_the_way_out(&io);
    flush(&mut io).await.unwrap();
    assert_eq!(read(&mut io).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(flush(&mut io).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert!(io.autopsy().finding().is_none());
    drop(server);
}

#[tokio::test]
async fn a_connection_that_is_cut_is_over_and_not_broken_by_tls() {
    let (mut io, mut server) = pair().await;
    server.write_all(b"the last words").await.unwrap();
    // Without close_notify.
    drop(server);
    assert_eq!(read(&mut io).await.unwrap(), b"the last words");
    match read(&mut io).await {
        Ok(end) => assert_eq!(end, b""),
        // OpenSSL 4 tells that something may be missing.
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof),
    }
    assert!(io.autopsy().finding().is_none());
}
