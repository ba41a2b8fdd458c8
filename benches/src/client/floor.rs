//! What OpenSSL itself takes: framed segments in memory, written by `SSL_write` in full records.
//!
//! There is no HTTP/2 and no copy: nothing that is sent over TLS can take less.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use openssl::ssl::{ShutdownResult, Ssl, SslContext, SslMethod, SslStream, SslVerifyMode};

use super::{Arrival, Cost, Meter, Task};
use crate::Result;
use crate::pacer::{Paced, pace};
use crate::segment;

/// What a TLS record holds.
const RECORD: usize = 16_384;

pub(super) fn run(task: &Task) -> Result<Cost> {
    let mut stream = connect(task)?;
    let payload = segment::encoded(task.size);
    let mut framed = vec![0];
    framed.extend(u32::try_from(payload.len())?.to_be_bytes());
    framed.extend(payload);

    // So many segments that they end where a record ends.
    let tile = framed.repeat(RECORD);
    write(&mut stream, &tile, framed.len() as u64 * task.warm_up)?;
    let meter = Meter::start()?;
    let paced = match task.arrival {
        Arrival::Backlog => {
            write(&mut stream, &tile, framed.len() as u64 * task.count)?;
            Paced::default()
        }
        Arrival::Rate(rate) => pace(rate, task.count, || Ok(stream.write_all(&framed)?))?,
    };
    let cost = meter.stop(task.count, paced)?;
    if stream.shutdown()? == ShutdownResult::Sent {
        let mut seen = [0; 8];
        stream.read_exact(&mut seen)?;
        if u64::from_be_bytes(seen) != task.warm_up + task.count {
            return Err("the sink has seen another number".into());
        }
    }
    // The other side may have closed it before.
    let _ = stream.get_ref().shutdown(Shutdown::Both);
    Ok(cost)
}

fn write(stream: &mut SslStream<TcpStream>, tile: &[u8], mut bytes: u64) -> Result<()> {
    while bytes > 0 {
        for record in tile.chunks(RECORD) {
            let length = record.len().min(usize::try_from(bytes)?);
            stream.write_all(&record[..length])?;
            bytes -= length as u64;
            if bytes == 0 {
                break;
            }
        }
    }
    Ok(())
}

fn connect(task: &Task) -> Result<SslStream<TcpStream>> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    context.set_ca_file(&task.ca)?;
    context.set_verify(SslVerifyMode::PEER);
    let mut ssl = Ssl::new(&context.build())?;
    ssl.param_mut().set_host("localhost")?;
    ssl.set_hostname("localhost")?;
    let socket = TcpStream::connect(("127.0.0.1", task.port))?;
    socket.set_nodelay(true)?;
    let mut stream = SslStream::new(ssl, socket)?;
    stream.connect()?;
    Ok(stream)
}
