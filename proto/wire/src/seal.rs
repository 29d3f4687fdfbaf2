//! Words that an operator has written down where others keep them, signed with the key of the identity: who keeps them can
//! neither change them nor make up others.
//!
//! Left out: what they say, and which of two sealed texts is the later one.

use std::fmt;
use std::str::FromStr;

use rustls::SignatureScheme;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::{Role, facts_of};
use crate::trust::{Credentials, TrustError, tls};
use crate::verifier::{BelievesClients as _, Shown};

/// What every signed text begins with: the same key signs handshakes, which begin otherwise (RFC 8446, section 4.4.3).
const CONTEXT: &[u8] = b"baton: sealed by an operator\0";
/// Identities have P-256 keys.
const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

/// A signature, and the certificate of who signed, both as they come (DER). As a text: `SIGNATURE.CERTIFICATE`, in Base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    pub signature: Vec<u8>,
    pub certificate: Vec<u8>,
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", hex::BASE64.encode(&self.signature), hex::BASE64.encode(&self.certificate))
    }
}

impl FromStr for Seal {
    type Err = TrustError;

    fn from_str(text: &str) -> Result<Seal, TrustError> {
        let read = || {
            let (signature, certificate) = text.split_once('.')?;
            let decode = |text: &str| hex::BASE64.decode(text.as_bytes()).ok();
            Some(Seal { signature: decode(signature)?, certificate: decode(certificate)? })
        };
        read().ok_or_else(|| tls("its seal cannot be read"))
    }
}

impl Credentials {
    /// Signs words with the key of the identity that is shown now.
    pub fn seal(&self, words: &[u8]) -> Result<Seal, TrustError> {
        let shown = self.shown();
        let certificate = shown.cert.first().map(|certificate| certificate.to_vec()).unwrap_or_default();
        let signer = shown.key.choose_scheme(&[SCHEME]).ok_or_else(|| tls("its key is not of P-256"))?;
        let signature = signer.sign(&signed(words)).map_err(tls)?;
        Ok(Seal { signature, certificate })
    }

    /// The operator who has signed just these words: one of this authority, whose certificate is valid and not revoked.
    pub fn sealed_by(&self, words: &[u8], seal: &Seal) -> Result<String, TrustError> {
        let certificate = CertificateDer::from(seal.certificate.as_slice());
        self.believe_client(Shown { certificate: &certificate, between: &[], now: UnixTime::now() }).map_err(tls)?;
        let signer = match facts_of(&certificate).map_err(tls)?.role {
            Role::Operator(name) => name,
            other => return Err(tls(format!("the {other} has signed it, who is no operator"))),
        };
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(tls)?;
        let key = &parsed.public_key().subject_public_key.data;
        let of_scheme = self.algorithms(SCHEME);
        let fits = of_scheme.iter().any(|with| with.verify_signature(key, &signed(words), &seal.signature).is_ok());
        if fits { Ok(signer) } else { Err(tls(format!("it is not what operator {signer} has signed"))) }
    }
}

fn signed(words: &[u8]) -> Vec<u8> {
    [CONTEXT, words].concat()
}
