//! One question to one DNS server over datagrams, with our own retransmission: a library's would hide the loss (RFC 1035).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::check::Finding;
use crate::net::{Net, Source, late_fault, own_fault};
use vigie_contract::Reason;

/// The largest datagram that is taken; without EDNS a server sends at most 512 bytes and says that there is more.
const MOST_BYTES: usize = 4096;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) record_type: RecordType,
}

/// Asks `server` and returns its answer, whatever it says. The question is repeated every `resend_after` until the future is dropped.
pub(crate) async fn ask(source: Source, server: SocketAddr, question: &Question, resend_after: Duration) -> Result<Message, Finding> {
    let id = crate::random::u64() as u16;
    let mut query = Message::new(id, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(question.name.clone(), question.record_type));
    let bytes = query.to_vec().map_err(|_| Finding::Void(Reason::Internal))?;
    let socket = Net::datagram_socket(source, server).await?;
    let mut buffer = vec![0; MOST_BYTES];
    loop {
        socket.send(&bytes).await.map_err(|error| late_fault(&error))?;
        let answer = tokio::time::timeout(resend_after, async {
            loop {
                let length = socket.recv(&mut buffer).await.map_err(|error| late_fault(&error))?;
                // Late answers to earlier questions, and forgeries, are not ours.
                match Message::from_vec(&buffer[..length]) {
                    Ok(answer) if answers(&answer, id, question) => return Ok(answer),
                    Err(_) if buffer[..length].starts_with(&id.to_be_bytes()) => return Err(Finding::Fail(Reason::Protocol)),
                    Ok(_) | Err(_) => {}
                }
            }
        });
        match answer.await {
            Ok(Ok(answer)) if answer.metadata.truncation => return ask_by_stream(source, server, question, id, &bytes).await,
            Ok(answered) => return answered,
            Err(_) => {}
        }
    }
}

/// The same over TCP, for an answer that does not fit into a datagram (RFC 7766).
async fn ask_by_stream(source: Source, server: SocketAddr, question: &Question, id: u16, query: &[u8]) -> Result<Message, Finding> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(|error| own_fault(&error))?;
    if let Some(from) = source.toward(server.ip()) {
        socket.bind(from).map_err(|error| own_fault(&error))?;
    }
    let exchange = async {
        let mut stream = socket.connect(server).await?;
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let bytes = exchange.await.map_err(|error| late_fault(&error))?;
    let answer = Message::from_vec(&bytes).map_err(|_| Finding::Fail(Reason::Protocol))?;
    if answers(&answer, id, question) { Ok(answer) } else { Err(Finding::Fail(Reason::Protocol)) }
}

fn answers(answer: &Message, id: u16, question: &Question) -> bool {
    let same = |query: &Query| *query.name() == question.name && query.query_type() == question.record_type;
    answer.metadata.id == id && answer.metadata.message_type == MessageType::Response && answer.queries.iter().all(same)
}
