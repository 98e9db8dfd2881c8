// SPDX-License-Identifier: Apache-2.0
//! Calls to PID 1, over the socket that it has for an agent: the frames of proto/stele/internal/v1/init.proto.

use bytes::Bytes;
use prost::Message;
use std::{io, path::Path};
use stele_proto::internal::{Close, Frame, HalfClose, Open, frame};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

/// The longest frame.
const LONGEST: usize = 2 * 1024 * 1024;

/// Why PID 1 did not answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no connection any more.
    #[error("talking to PID 1")]
    Talk(#[source] io::Error),
    /// It said something that makes no sense.
    #[error("understanding PID 1")]
    Understand(#[source] prost::DecodeError),
    /// It said something that does not belong here.
    #[error("PID 1 broke the protocol")]
    Protocol,
    /// It did not want to.
    #[error("PID 1 refused: {0}")]
    Refused(String),
}

/// A message as PID 1 reads it from a call or an agent's reports: its length as four bytes, the highest first, then itself.
#[must_use]
pub fn framed(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), &message].concat()
}

/// A call under way, on a connection of its own.
#[derive(Debug)]
pub struct Call {
    stream: BufReader<UnixStream>,
}

impl Call {
    /// Opens a call with its one message.
    ///
    /// # Errors
    /// When PID 1 can't be reached.
    pub async fn open(
        socket: &Path,
        method: &str,
        message: &impl Message,
    ) -> Result<Call, CallError> {
        let stream = UnixStream::connect(socket).await.map_err(CallError::Talk)?;
        let mut call = Call { stream: BufReader::new(stream) };
        let open = Open { method: method.to_owned(), ..Open::default() };
        let frames = [
            frame::Frame::Open(open),
            frame::Frame::Message(message.encode_to_vec().into()),
            frame::Frame::HalfClose(HalfClose {}),
        ];
        let frames = frames.map(|frame| framed(&Frame { frame: Some(frame) }));
        call.stream.write_all(&frames.concat()).await.map_err(CallError::Talk)?;
        Ok(call)
    }

    /// The next message of the answer; `None` at its good end.
    ///
    /// # Errors
    /// When the call failed.
    pub async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, CallError> {
        let length = self.stream.read_u32().await.map_err(CallError::Talk)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(CallError::Protocol);
        }
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).await.map_err(CallError::Talk)?;
        let frame = Frame::decode(Bytes::from(bytes)).map_err(CallError::Understand)?;
        match frame.frame {
            Some(frame::Frame::Message(message)) => {
                M::decode(message).map(Some).map_err(CallError::Understand)
            }
            Some(frame::Frame::Close(Close { code: 0, .. })) => Ok(None),
            Some(frame::Frame::Close(Close { message, .. })) => Err(CallError::Refused(message)),
            Some(frame::Frame::Open(_) | frame::Frame::HalfClose(_)) | None => {
                Err(CallError::Protocol)
            }
        }
    }
}

/// A call whose answer is one message.
///
/// # Errors
/// When it failed.
pub async fn call<M: Message + Default>(
    socket: &Path,
    method: &str,
    message: &impl Message,
) -> Result<M, CallError> {
    Call::open(socket, method, message).await?.next().await?.ok_or(CallError::Protocol)
}
