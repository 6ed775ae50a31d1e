//! The few requests of the Kafka protocol that the tests send themselves, in their last versions without tagged fields.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What a broker knows of the cluster.
pub(super) struct Metadata {
    /// Who runs, in order.
    pub(super) brokers: Vec<usize>,
    pub(super) topics: Vec<(String, Vec<Partition>)>,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) number: usize,
    pub(super) leader: Option<usize>,
    pub(super) replicas: Vec<usize>,
    pub(super) in_sync: Vec<usize>,
}

/// Asks the broker at `port` for all that it knows (Metadata, version 4).
pub(super) fn metadata(port: u16) -> Result<Metadata> {
    let mut request = Request::new(3, 4);
    request.i32(-1).i8(0); // every topic, and none is to be made
    let mut answer = request.send(port)?;
    answer.i32()?; // throttled for
    let mut brokers = answer.list(|broker| {
        let id = broker.i32()?;
        broker.string()?;
        broker.i32()?; // port
        broker.string()?; // rack
        Ok(id as usize)
    })?;
    brokers.sort_unstable();
    answer.string()?; // cluster
    answer.i32()?; // controller
    let topics = answer.list(|topic| {
        topic.i16()?; // error: none, of a topic that we did not name
        let name = topic.string()?;
        topic.i8()?; // is it internal?
        let partitions = topic.list(|partition| {
            partition.i16()?; // error: told by the leader that is missing
            let (number, leader) = (partition.i32()? as usize, usize::try_from(partition.i32()?).ok());
            let mut ids = || partition.list(|id| Ok(id.i32()? as usize));
            Ok(Partition { number, leader, replicas: ids()?, in_sync: ids()? })
        })?;
        Ok((name, partitions))
    })?;
    Ok(Metadata { brokers, topics })
}

/// Makes a topic (`CreateTopics`, version 4).
pub(super) fn create_topic(port: u16, name: &str, partitions: usize, replicas: usize, settings: &[(&str, &str)]) -> Result<()> {
    let mut request = Request::new(19, 4);
    request.i32(1).string(name).i32(partitions as i32).i16(replicas as i16);
    request.i32(0); // the brokers choose who has which partition
    request.i32(settings.len() as i32);
    for (name, value) in settings {
        request.string(name).string(value);
    }
    request.i32(60_000).i8(0); // ms to wait for it; not only a rehearsal
    let mut answer = request.send(port)?;
    answer.i32()?; // throttled for
    answer.list(|topic| {
        topic.string()?;
        topic.error()
    })?;
    Ok(())
}

/// Operations and kinds of resources in ACLs.
pub(super) const READ: i8 = 3;
pub(super) const WRITE: i8 = 4;
pub(super) const TOPIC: i8 = 2;
pub(super) const GROUP: i8 = 3;

/// Allows a user an operation (`CreateAcls`, version 1).
pub(super) fn allow(port: u16, user: &str, operation: i8, kind: i8, resource: &str) -> Result<()> {
    let mut request = Request::new(30, 1);
    request.i32(1).i8(kind).string(resource).i8(3); // what is called exactly so
    request.string(&format!("User:{user}")).string("*"); // from any host
    request.i8(operation).i8(3); // allowed
    let mut answer = request.send(port)?;
    answer.i32()?; // throttled for
    answer.list(Answer::error)?;
    Ok(())
}

struct Request(Vec<u8>);

impl Request {
    fn new(api: i16, version: i16) -> Self {
        let mut request = Self(Vec::new());
        request.i16(api).i16(version).i32(0).string("vigie-tests"); // 0: we send one request at a time
        request
    }

    fn i8(&mut self, value: i8) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i16(&mut self, value: i16) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i32(&mut self, value: i32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn string(&mut self, value: &str) -> &mut Self {
        self.i16(value.len() as i16);
        self.0.extend(value.as_bytes());
        self
    }

    fn send(&self, port: u16) -> Result<Answer> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(&[&(self.0.len() as i32).to_be_bytes(), &*self.0].concat())?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; i32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer)?;
        let mut answer = Answer(answer.into());
        answer.i32()?; // the number of the request
        Ok(answer)
    }
}

struct Answer(std::collections::VecDeque<u8>);

impl Answer {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.bytes()?))
    }

    fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.bytes()?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.bytes()?))
    }

    /// Nothing (-1) is read as empty.
    fn string(&mut self) -> Result<String> {
        let mut bytes = vec![0; usize::try_from(self.i16()?).unwrap_or(0)];
        self.0.read_exact(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        (0..self.i32()?).map(|_| item(self)).collect()
    }

    /// A code, which is 0 if all is well, and what it means.
    fn error(&mut self) -> Result<()> {
        match (self.i16()?, self.string()?) {
            (0, _) => Ok(()),
            (code, why) => Err(Error::new(ErrorKind::InvalidInput, format!("refused, error {code}: {why}"))),
        }
    }
}
