//! TLS as a server of this host speaks it: with the certificates that its `redis.conf` names.
//!
//! The chain of a server's certificate is verified, and no name: Redis verifies none when it replicates (`src/tls.c` sets
//! `SSL_VERIFY_PEER` and no host), so the certificates of a group that works need not bear any. The files are read at each
//! connection, since they are renewed without telling the agent. Not here: who connects to whom.

mod files;
mod material;
mod trust;

use std::io::{self, ErrorKind};
use std::sync::Arc;

use baton_wire::Verifier;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::{AlertDescription, CertificateError, ClientConfig, Error, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use self::files::Asks;
pub use self::files::Files;
use self::trust::{Anybody, Chain, Clients, Mistrust};

/// Why TLS does not come about, in words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The files of this side do not do.
    #[error("{0}")]
    Own(String),
    /// One side does not trust the other.
    #[error("{0}")]
    Mistrust(String),
    /// The peer does not speak TLS, or broke off.
    #[error("{0}")]
    Broken(String),
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        match mistrust(&error) {
            Some(words) => Self::Mistrust(words),
            None if error.kind() == ErrorKind::UnexpectedEof => {
                Self::Broken("it broke the TLS handshake off".to_owned())
            }
            None => Self::Broken(format!("no TLS: {error}")),
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// No name is verified; one has to be given all the same, and an address is not sent to the peer.
fn nobody() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into())
}

/// Shakes hands as the server of these files would with its primary.
pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    files: &Files,
) -> Result<TlsStream<S>, TlsError> {
    let config = client(files).map_err(TlsError::Own)?;
    Ok(TlsConnector::from(Arc::new(config)).connect(nobody(), stream).await?)
}

fn client(files: &Files) -> Result<ClientConfig, String> {
    let provider = provider();
    let chain = Chain::new(material::trusted(files)?, files.trust_in_words(), &provider);
    let verifier = Verifier::new(chain, &provider);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match material::own(files.client()) {
        Ok(Some((chain, key))) => {
            config.with_client_auth_cert(chain, key).map_err(|error| files.unfit(files.client(), &error))
        }
        Ok(None) => Ok(config.with_no_client_auth()),
        // Nobody will ask for what cannot be read.
        Err(_) if files.asks == Asks::Nobody => Ok(config.with_no_client_auth()),
        Err(reason) => Err(reason),
    }
}

/// Answers TLS as the server of these files will.
pub(crate) fn acceptor(files: &Files) -> Result<TlsAcceptor, String> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = match files.asks {
        Asks::Nobody => config.with_no_client_auth(),
        asks => {
            let trusted = material::trusted(files)?;
            let clients = Clients::new(trusted, asks == Asks::Everybody, provider())?;
            config.with_client_cert_verifier(Arc::new(Verifier::new(clients, &provider())))
        }
    };
    let Some((chain, key)) = material::own(files.own())? else {
        return Err("redis.conf names no `tls-cert-file` and `tls-key-file`".to_owned());
    };
    let config = config.with_single_cert(chain, key).map_err(|error| files.unfit(files.own(), &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Whether the peer speaks TLS, whoever it is.
pub(crate) async fn is_spoken<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> bool {
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let Ok(config) = config else { return false };
    let verifier = Verifier::new(Anybody, &provider());
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    match TlsConnector::from(Arc::new(config)).connect(nobody(), stream).await {
        Ok(_) => true,
        Err(error) => matches!(inner(&error), Some(Error::AlertReceived(_))),
    }
}

fn inner(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// What an error of a TLS connection says about trust, if it does. A server that does not like its client's certificate
/// says so only when the client has shaken hands and reads.
pub(crate) fn mistrust(error: &io::Error) -> Option<String> {
    use AlertDescription as Alert;
    Some(match inner(error)? {
        Error::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref::<Mistrust>() {
            Some(words) => words.to_string(),
            None => format!("its certificate is not trusted: {other}"),
        },
        Error::InvalidCertificate(reason) => format!("its certificate is not trusted: {reason}"),
        Error::AlertReceived(Alert::CertificateRequired) => {
            "it wants a certificate of whoever connects, and this instance has none to show".to_owned()
        }
        Error::AlertReceived(alert) => {
            let why = match alert {
                Alert::UnknownCA => "its CA is not the one that is trusted there",
                Alert::CertificateExpired => "it has expired, or is not yet valid",
                Alert::CertificateRevoked => "it has been revoked",
                Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateUnknown
                | Alert::AccessDenied
                | Alert::DecryptError => "it is not accepted there",
                // How TLS 1.2 says that a certificate is missing, among other things.
                Alert::HandshakeFailure => {
                    return Some(
                        "it refuses the handshake: it misses a certificate of this instance, or shares no cipher with it"
                            .to_owned(),
                    );
                }
                Alert::ProtocolVersion => {
                    return Some("it speaks no version of TLS that is spoken here (1.2 and 1.3)".to_owned());
                }
                _ => return None,
            };
            format!("it does not trust the certificate of this instance: {why} ({alert:?})")
        }
        _ => return None,
    })
}

#[cfg(test)]
pub(crate) mod tests;
