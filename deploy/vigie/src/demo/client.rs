//! What the demo asks the region's own API, as any reader would.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::shell::Failure;

const PATIENCE: Duration = Duration::from_secs(5);
const MOST_BYTES: usize = 16 << 20;

/// The body of `http://address/path`.
pub(super) async fn get(address: SocketAddr, path: &str) -> Result<Bytes, Failure> {
    let asked = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::get(path).header("host", address.to_string()).body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
        connection.abort();
        let body = body.map_err(|error| Failure::new(format!("http://{address}{path}: {error}")))?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(Failure::new(format!("http://{address}{path} answers {status}"))) }
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answered) => answered,
        Err(_) => Err(Failure::new(format!("http://{address}{path} does not answer"))),
    }
}

/// The JSON at `http://address/path`.
pub(super) async fn get_json(address: SocketAddr, path: &str) -> Result<serde_json::Value, Failure> {
    Ok(serde_json::from_slice(&get(address, path).await?)?)
}
