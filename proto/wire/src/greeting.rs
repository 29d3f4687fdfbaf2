//! The greeting as the asking side has it: sent first, and its answer heard whenever that comes.

use std::net::SocketAddr;
use std::sync::Arc;

use baton_proto::codec;
use baton_proto::hello::Hello;
use baton_proto::{Fault, FaultKind, HostName};
use quinn::{Connection, RecvStream};
use tokio::sync::watch;

use crate::link::{self, DIAL_TIMEOUT, DialError};
use crate::tongue;

/// Largest greeting, and largest answer to it.
pub(crate) const HELLO_BYTES_MAX: usize = 4096;

/// What the other side calls itself, if both speak a common version.
type Answered = Result<String, DialError>;

/// A greeting that is under way, or answered. Clones share it.
#[derive(Clone)]
pub(crate) struct Greeting {
    answered: watch::Receiver<Option<Answered>>,
    address: SocketAddr,
    /// What we call ourselves.
    ours: Arc<str>,
}

impl Greeting {
    /// Greets the agent of `host`. What is asked afterwards arrives behind it.
    pub(crate) async fn send(
        connection: &Connection,
        address: SocketAddr,
        host: &HostName,
        software: &str,
    ) -> Result<Greeting, DialError> {
        let unheard = move |fault| DialError::Greeting { address, fault };
        let ours = Hello::new(software);
        let recv = match tongue::encode(&ours) {
            Ok(hello) => link::open(connection, &hello).await.map_err(unheard)?,
            Err(fault) => return Err(unheard(fault)),
        };
        let (tell, answered) = watch::channel(None);
        let (connection, host) = (connection.clone(), host.clone());
        tokio::spawn(async move {
            let theirs = tokio::time::timeout(DIAL_TIMEOUT, hear(&connection, recv, &ours)).await;
            let answered = match theirs {
                Ok(Ok(theirs)) => Ok(format!("{theirs} of {host}")),
                // The refusal of our certificate arrives only now: TLS lets a client finish before the server has judged it.
                Ok(Err(fault)) => Err(unheard(fault)),
                Err(_) => Err(DialError::Silent { address }),
            };
            if answered.is_err() {
                connection.close(0u32.into(), b"no common greeting");
            }
            tell.send_replace(Some(answered));
        });
        Ok(Greeting { answered, address, ours: software.into() })
    }

    /// Waits for the answer.
    pub(crate) async fn heard(&self) -> Result<(), DialError> {
        let mut answered = self.answered.clone();
        match answered.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(_))) => Ok(()),
            Ok(Some(Err(error))) => Err(error.clone()),
            // The runtime is ending.
            Ok(None) | Err(_) => Err(DialError::Silent { address: self.address }),
        }
    }

    /// What the programs of both sides call themselves, ours first.
    pub(crate) fn programs(&self) -> [String; 2] {
        let theirs = match &*self.answered.borrow() {
            Some(Ok(theirs)) => theirs.clone(),
            _ => format!("the agent at {}", self.address),
        };
        [self.ours.to_string(), theirs]
    }
}

async fn hear(connection: &Connection, recv: RecvStream, ours: &Hello) -> Result<String, Fault> {
    let bytes = link::read_to_end(connection, recv, HELLO_BYTES_MAX).await?;
    let theirs: Result<Hello, Fault> = codec::decode(&bytes)
        .map_err(|error| Fault::new(FaultKind::Unsupported, "its greeting is not understood").because(error))?;
    let theirs = theirs?;
    ours.agree(&theirs).map(|_| theirs.software)
}
