//! The authority by which an installation goes: where it lies, and which identities of a host it stands for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use baton_proto::HostName;
use baton_wire::{Facts, Identity};

use crate::error::CoordError;
use crate::inventory::Places;
use crate::pki::ledger::Ledger;
use crate::pki::{self, PkiError};

/// Where `coord install` makes an authority, beside coord.toml.
const DIR: &str = "pki";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Where it lies, or would.
    pub dir: PathBuf,
    /// Whether it is there.
    pub is_there: bool,
    /// Its certificate without white space; empty where there is none.
    certificate: String,
    /// Serial numbers of what it has revoked.
    revoked: BTreeSet<String>,
    looked: Vec<PathBuf>,
}

impl Authority {
    /// The authority of the operator that coord.toml names. The identity may be of another name, and lie anywhere.
    pub fn of_operator(identity: &Path, config: &Path, places: &Places) -> Result<Authority, CoordError> {
        // Who cannot ask the agent afterwards need not begin.
        Identity::load(identity).map_err(CoordError::usage)?;
        let made = std::iter::once(config.to_owned()).chain(places.new_config());
        let dirs = std::iter::once(parent(identity)).chain(made.map(|config| parent(&config).join(DIR)));
        Ok(Self::find(identity, dirs.collect())?)
    }

    /// The authority of an installation without a coord.toml: one that is there, or that is to be made.
    pub fn beside(config: &Path) -> Result<Authority, CoordError> {
        let dir = parent(config).join(DIR);
        Ok(Self::find(&dir.join(pki::OPERATOR), vec![dir])?)
    }

    /// Looks in these directories for the authority that the identity names; without an identity any will do.
    fn find(identity: &Path, looked: Vec<PathBuf>) -> Result<Authority, PkiError> {
        let own = std::fs::read_to_string(identity).ok().and_then(|bundle| last_certificate(&bundle));
        let found = looked.iter().find_map(|dir| {
            let certificate = plain(&std::fs::read_to_string(dir.join(pki::CA_CERTIFICATE)).ok()?);
            own.as_ref().is_none_or(|own| *own == certificate).then(|| (dir.clone(), certificate))
        });
        let is_there = found.is_some();
        let (dir, certificate) = found.unwrap_or_else(|| (looked.first().cloned().unwrap_or_default(), String::new()));
        let revoked = Ledger::read(&dir)?.revoked().map(str::to_owned).collect();
        Ok(Authority { dir, is_there, certificate: own.unwrap_or(certificate), revoked, looked })
    }

    /// Whether an identity, its certificate and the authority's, is still believed at this time.
    pub fn believes(&self, identity: &str, now_unix: u64) -> bool {
        let is_own = !self.certificate.is_empty() && last_certificate(identity).as_ref() == Some(&self.certificate);
        is_own
            && Facts::of_pem(identity.as_bytes()).is_ok_and(|facts| {
                facts.expires_unix > now_unix && !self.revoked.contains(&hex::HEXLOWER.encode(&facts.serial))
            })
    }

    /// Refuses to go on for a host that needs an identity, where nothing can sign one.
    pub fn signs_for(&self, host: &HostName) -> Result<(), CoordError> {
        if self.is_there && self.dir.join(pki::CA_KEY).exists() {
            return Ok(());
        }
        let looked: Vec<String> = self.looked.iter().map(|dir| format!("`{}`", dir.display())).collect();
        let what = format!("{host} has no valid identity, and no authority to issue one is in {}", looked.join(", "));
        Err(CoordError::usage(what).hint(format!(
            "run this where its `{}` is; or put what `coord pki issue {host} --dir DIR --out FILE` makes there as /etc/baton/identity.pem, and run this again",
            pki::CA_KEY
        )))
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

/// The authority's certificate of a bundle stands last.
fn last_certificate(bundle: &str) -> Option<String> {
    let last = bundle.get(bundle.rfind(BEGIN)?..)?;
    let end = last.find(END)?.checked_add(END.len())?;
    last.get(..end).map(plain)
}

fn plain(text: &str) -> String {
    text.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use baton_wire::Role;

    use super::*;
    use crate::error::Exit;

    /// The home of an operator, with an authority as an installation makes it.
    fn home() -> (tempfile::TempDir, Places, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join(".config/baton/pki");
        std::fs::create_dir_all(dir.parent().unwrap()).unwrap();
        pki::init(&dir, "ada").unwrap();
        let places = Places { home: Some(home.path().to_owned()), ..Places::default() };
        (home, places, dir)
    }

    fn host() -> HostName {
        HostName::new("machine-b").unwrap()
    }

    /// What a host tells of the identity that it was given: its certificates.
    fn issued(dir: &Path, name: &str) -> String {
        let path = dir.join(name);
        pki::issue(&host(), dir, &path).unwrap();
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_authority_is_found_by_an_identity_of_any_name_anywhere() {
        let (home, places, dir) = home();
        let bob = home.path().join("keys/bob.pem");
        std::fs::create_dir(bob.parent().unwrap()).unwrap();
        pki::operator("bob", &dir, &bob).unwrap();
        let config = home.path().join("elsewhere/coord.toml");
        let authority = Authority::of_operator(&bob, &config, &places).unwrap();
        assert_eq!((&authority.dir, authority.is_there), (&dir, true));
        authority.signs_for(&host()).unwrap();
        // Another's is not taken for it.
        let other = home.path().join("keys/pki");
        pki::init(&other, "eve").unwrap();
        let found = Authority::find(&bob, vec![other.clone(), dir]).unwrap();
        assert_eq!(found, Authority { looked: found.looked.clone(), ..authority });
        let error = Authority::find(&bob, vec![other]).unwrap().signs_for(&host()).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.message.contains("no authority to issue one") && error.message.contains("keys/pki"), "{error:?}");
    }

    #[test]
    fn without_its_key_it_signs_nothing_and_still_believes_what_it_signed() {
        let (home, places, dir) = home();
        let identity = issued(&dir, "b.pem");
        std::fs::remove_file(dir.join(pki::CA_KEY)).unwrap();
        let config = home.path().join(".config/baton/coord.toml");
        let authority = Authority::of_operator(&dir.join(pki::OPERATOR), &config, &places).unwrap();
        assert!(authority.believes(&identity, pki::unix_now()));
        assert!(authority.signs_for(&host()).unwrap_err().hint.unwrap().contains("coord pki issue machine-b"));
    }

    #[test]
    fn an_operator_without_an_identity_is_refused_and_a_new_authority_is_made_where_none_is() {
        let (home, places, dir) = home();
        let config = home.path().join(".config/baton/coord.toml");
        assert!(Authority::of_operator(&home.path().join("none.pem"), &config, &places).is_err());
        assert!(Authority::beside(&config).unwrap().is_there);
        let none = Authority::beside(&home.path().join("coord.toml")).unwrap();
        assert_eq!((none.is_there, none.dir), (false, home.path().join("pki")));
        assert_ne!(home.path().join("pki"), dir);
    }

    #[test]
    fn an_identity_that_has_ended_was_revoked_or_is_anothers_does_not_count() {
        let (home, _places, dir) = home();
        let find = || Authority::beside(&dir.with_file_name("coord.toml")).unwrap();
        let (identity, now) = (issued(&dir, "b.pem"), pki::unix_now());
        assert!(find().believes(&identity, now));
        let ends = Facts::of_pem(identity.as_bytes()).unwrap().expires_unix;
        assert!(find().believes(&identity, ends - 1) && !find().believes(&identity, ends));
        pki::revoke(&Role::Agent(host()), &dir, &[]).unwrap();
        assert!(!find().believes(&identity, now));
        assert!(find().believes(&issued(&dir, "again.pem"), now), "it is a new one");
        let other = home.path().join("other");
        pki::init(&other, "eve").unwrap();
        assert!(!find().believes(&issued(&other, "b.pem"), now));
        assert!(!find().believes("", now) && !find().believes(BEGIN, now));
    }
}
