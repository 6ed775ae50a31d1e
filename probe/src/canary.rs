//! A server of the probe's own on loopback, measured like a target: what it takes is the probe's own noise.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

/// Starts it on a free port. Its thread lives as long as the process.
pub(crate) fn start() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("vigie-canary".into()).spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The whole request comes in one piece from ourselves; whoever else calls gets the same answer.
            let _ = stream.set_read_timeout(Some(std::time::Duration::from_secs(1)));
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    })?;
    Ok(address)
}
