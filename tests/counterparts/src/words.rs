//! The body of an answer, which may get stuck, and the end of a connection that gives none.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// The connection is to end without an answer.
#[derive(Debug)]
pub(crate) struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut off")
    }
}

impl std::error::Error for Cut {}

/// What is said after the head.
pub(crate) enum Words {
    Whole(Option<Bytes>),
    /// These, and then nothing for ever.
    Stuck(Option<Bytes>),
}

impl Words {
    /// The first half, and then nothing for ever.
    pub(crate) fn half(self) -> Self {
        match self {
            Self::Whole(words) => Self::Stuck(words.map(|words| words.slice(..words.len() / 2))),
            Self::Stuck(words) => Self::Stuck(words),
        }
    }
}

impl Body for Words {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Self::Whole(words) => Poll::Ready(words.take().map(|words| Ok(Frame::data(words)))),
            Self::Stuck(words) => words.take().map_or(Poll::Pending, |words| Poll::Ready(Some(Ok(Frame::data(words))))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(words) => SizeHint::with_exact(words.as_ref().map_or(0, |words| words.len() as u64)),
            Self::Stuck(_) => SizeHint::default(),
        }
    }
}
