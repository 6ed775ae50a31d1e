//! An object store that speaks S3: somebody else's, over a directory, on a thread of its own, or another program.

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use crate::identity::Identity;

/// The access key that it knows.
pub const ACCESS_KEY: &str = "AKVIGIE";
/// Its secret.
pub const SECRET_KEY: &str = "a/secret+of=40";

/// A server that runs until it is dropped.
pub struct ObjectStore {
    /// Where it answers, by IPv4 on loopback.
    pub address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// An independent server that runs until it is dropped.
pub struct Program {
    /// Where it answers, by IPv4 on loopback.
    pub address: SocketAddr,
    child: Child,
}

impl ObjectStore {
    /// Serves the directories in `root` as buckets on `port`, 0 for any that is free; with TLS if it has an identity.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub fn start(root: &Path, port: u16, identity: Option<Identity>) -> io::Result<Self> {
        let files = FileSystem::new(root).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (end, ended) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = ended => {}
                    _ = serve(listener, &service, identity) => {}
                }
            });
        });
        Ok(Self { address, end: Some(end), thread: Some(thread) })
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Program {
    /// Serves the directories in `root` as buckets by `program`, which is called as versitygw is.
    ///
    /// # Errors
    /// If it cannot be started, or ends before it listens.
    pub fn start(program: &OsStr, root: &Path) -> io::Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new(program);
        command.env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
        command.args(["--port", &address.to_string(), "--region", "fr1", "posix"]).arg(root);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut program = Self { address, child };
        while TcpStream::connect(address).is_err() {
            if let Some(status) = program.child.try_wait()? {
                return Err(io::Error::other(format!("the server ended with {status}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(program)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn serve(listener: TcpListener, service: &S3Service, identity: Option<Identity>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let acceptor = identity.map(|identity| identity.acceptor());
    loop {
        let (stream, _) = listener.accept().await?;
        let (service, acceptor) = (service.clone(), acceptor.clone());
        tokio::spawn(async move {
            match acceptor {
                None => answer(stream, service).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream, service).await;
                    }
                }
            }
        });
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: S3Service) {
    // A client that goes away is no fault of ours.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
