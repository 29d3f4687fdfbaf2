//! Connection errors in words that tell an operator what to do.

use quinn::ConnectionError;

/// TLS alerts travel as QUIC errors 0x100 + alert (RFC 9001, section 4.8).
const CRYPTO_ERROR_FIRST: u64 = 0x100;
const CRYPTO_ERROR_LAST: u64 = 0x1ff;

/// Whether the other side did not believe our certificate.
pub(crate) fn is_refusal(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::ConnectionClosed(close) => refusal(close.error_code.into()).is_some(),
        _ => false,
    }
}

/// Says why a connection could not be made or was lost.
pub(crate) fn connection(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionClosed(close) => {
            alert(close.error_code.into()).unwrap_or_else(|| format!("closed by the other side: {close}"))
        }
        ConnectionError::TransportError(error) => {
            let code = u64::from(error.code);
            if (CRYPTO_ERROR_FIRST..=CRYPTO_ERROR_LAST).contains(&code) {
                let why = match error.reason.as_str() {
                    reason if reason.contains("UnknownIssuer") => "made by another CA than our own",
                    reason if reason.contains("Revoked") => "revoked",
                    reason => reason,
                };
                format!("its certificate was refused here: {why}")
            } else {
                format!("protocol error: {error}")
            }
        }
        ConnectionError::ApplicationClosed(close) => {
            format!("closed by the other side: {}", String::from_utf8_lossy(&close.reason))
        }
        ConnectionError::TimedOut => "no answer in time".into(),
        ConnectionError::Reset => "the other side was restarted".into(),
        ConnectionError::LocallyClosed => "closed here".into(),
        ConnectionError::VersionMismatch => "the other side speaks no QUIC version 1".into(),
        ConnectionError::CidsExhausted => "out of connection ids".into(),
    }
}

/// Explains an alert that the other side sent (RFC 8446, section 6).
fn alert(code: u64) -> Option<String> {
    let text = match code.checked_sub(CRYPTO_ERROR_FIRST)? {
        120 => "it is no baton-agent: it speaks another protocol",
        alert if alert <= 0xff => return Some(refusal(code).map_or(format!("TLS alert {alert}"), str::to_owned)),
        _ => return None,
    };
    Some(text.into())
}

/// Explains an alert about our certificate.
fn refusal(code: u64) -> Option<&'static str> {
    match code.checked_sub(CRYPTO_ERROR_FIRST)? {
        42 | 43 | 46 => Some("it refused our certificate"),
        44 => Some("it refused our certificate: revoked"),
        45 => Some("it refused our certificate: expired, or its clock is wrong"),
        // Two private CAs bear the same name: the signature alone tells them apart, hence "decrypt error".
        48 | 51 => Some("it refused our certificate: made by another CA than its own"),
        116 => Some("it demands a certificate"),
        _ => None,
    }
}
