//! The agent's identity while it runs: renewed on order, and the certificates that it believes no more.
//!
//! A new key is made here and never leaves the host: the coordinator gets a signing request, and brings the certificate.
//! What is renewed stands in the state directory, and is taken instead of the identity that `agent.toml` names, unless that is
//! of a later date. Left out: what is believed and why (see `baton_wire::Credentials`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use baton_proto::control::{Answer, Reply};
use baton_proto::report::CertificateFacts;
use baton_proto::{Fault, FaultKind};
use baton_wire::{Credentials, Identity, IdentityError, REVOCATIONS_BYTES_MAX, TrustError};
use rcgen::{CertificateParams, KeyPair};
use tracing::{info, warn};

use crate::durable;

/// Names in the state directory.
const RENEWED: &str = "identity.pem";
const REVOKED: &str = "revoked.crl";

pub struct Certificates {
    credentials: Credentials,
    state: PathBuf,
    /// The key of the signing request that was made last.
    pending: Mutex<Option<KeyPair>>,
    /// Held while something else is believed and written down: of two that come at once, both ends with the same.
    kept: Mutex<()>,
}

impl Certificates {
    /// Loads the identity, or the one that it was renewed by, and what is not believed any more.
    pub fn load(identity: &Path, state: &Path) -> Result<Certificates, IdentityError> {
        let credentials = Credentials::load(identity)?;
        match durable::read_if_there(&state.join(REVOKED), REVOCATIONS_BYTES_MAX as u64) {
            Ok(None) => {}
            Ok(Some(list)) => drop(credentials.revoke(&list).map_err(|error| unfit(state, &error))?),
            // To go on would be to believe what was revoked.
            Err(error) => return Err(IdentityError::Read { path: state.join(REVOKED), error }),
        }
        // An agent that is new, or was away, hears by its identity what was revoked before that was made. It stays known when
        // the identity is replaced.
        if let Some(list) = credentials.revoke_by_identity().map_err(|error| unfit(identity, &error))? {
            let kept = durable::replace_file(&state.join(REVOKED), &list, 0o600);
            kept.map_err(|error| IdentityError::Write { path: state.join(REVOKED), error })?;
            info!(number = credentials.list(), "took in which certificates were revoked when the identity was made");
        }
        let renewed = state.join(RENEWED);
        if renewed.exists()
            && let Err(error) = take_renewed(&credentials, &renewed)
        {
            warn!(path = %renewed.display(), "the renewed identity is not taken: {error}");
        }
        Ok(Certificates { credentials, state: state.to_owned(), pending: Mutex::default(), kept: Mutex::default() })
    }

    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub fn facts(&self) -> CertificateFacts {
        let identity = self.credentials.identity();
        CertificateFacts { expires_unix: identity.facts().expires_unix, revocations: self.credentials.list() }
    }

    /// Makes a key, and asks for a certificate of it.
    pub fn signing_request(&self) -> Answer {
        let made = KeyPair::generate().and_then(|key| {
            let request = CertificateParams::default().serialize_request(&key)?.pem()?;
            Ok((key, request))
        });
        let (key, request) = made.map_err(|error| Fault::new(FaultKind::Internal, "make a key").because(error))?;
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
        Ok(Reply::SigningRequest { pem: request })
    }

    /// Takes the certificate of the key that was made last, and shows it from now on. `chain` is it and the authority's.
    pub fn renew(&self, chain: &str) -> Answer {
        let key = self.pending.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(|| {
            Fault::new(FaultKind::NotFound, "no certificate was asked for")
                .hint("begin anew: `coord pki rotate HOST --dir DIR`")
        })?;
        let bundle = format!("{chain}\n{}", key.serialize_pem());
        let invalid = |error: String| Fault::new(FaultKind::Invalid, "it is no identity of this host").because(error);
        let identity = Identity::parse(bundle.as_bytes()).map_err(invalid)?;
        let expires_unix = identity.facts().expires_unix;
        let _kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.credentials.check(&identity)?;
        // Written first: what is shown must be there after a restart.
        durable::replace_file(&self.state.join(RENEWED), bundle.as_bytes(), 0o600)
            .map_err(|error| unwritten(&error))?;
        self.credentials.renew(identity)?;
        info!(expires_unix, "the identity was renewed");
        Ok(Reply::Renewed(self.facts()))
    }

    /// Believes none of the certificates of a list any more.
    pub fn revoke(&self, list: &[u8]) -> Answer {
        let _kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.credentials.revoke(list)?;
        durable::replace_file(&self.state.join(REVOKED), list, 0o600).map_err(|error| unwritten(&error))?;
        info!(number, "took in which certificates are revoked");
        Ok(Reply::Renewed(self.facts()))
    }
}

/// Shows the renewed identity, unless the one that was given is of a later date.
fn take_renewed(credentials: &Credentials, path: &Path) -> Result<(), IdentityError> {
    let (given, renewed) = (credentials.identity(), Identity::load(path)?);
    let is_later = renewed.facts().expires_unix >= given.facts().expires_unix;
    if is_later || credentials.is_revoked(&given.facts().serial) {
        credentials.renew(renewed).map_err(|error| unfit(path, &error))?;
    }
    Ok(())
}

fn unfit(state: &Path, error: &TrustError) -> IdentityError {
    IdentityError::Content { path: state.to_owned(), reason: error.to_string() }
}

fn unwritten(error: &io::Error) -> Fault {
    Fault::new(FaultKind::Host, "write what is believed into the agent's state directory")
        .because(error)
        .hint("see that the agent's state directory can be written and has space")
}
