//! Certificates: a CA, the API server's, and those with which people say who they are.
//!
//! People's are written out here, field by field, because a Kubernetes user may be in several groups and rcgen keeps
//! one `O` per name. Must not be used for anything but test clusters: keys lie about in files.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData,
    SigningKey,
};
use time::OffsetDateTime;
use x509_parser::prelude::FromDer;
use yasna::models::{GeneralizedTime, ObjectIdentifier, UTCTime};
use yasna::{DERWriter, DERWriterSeq, Tag, construct_der};

use crate::{Error, Result};

const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
const ORGANISATION: &[u64] = &[2, 5, 4, 10];
/// The subject attribute that Kubernetes takes for the user's uid.
const UID: &[u64] = &[1, 3, 6, 1, 4, 1, 57683, 2];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const CLIENT_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];
const ECDSA_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const RSA_SHA256: &[u64] = &[1, 2, 840, 113_549, 1, 1, 11];
const RSA: &[u64] = &[1, 2, 840, 113_549, 1, 1, 1];

/// Clocks of two machines may differ by so much without harm.
const BACKDATED: Duration = Duration::from_secs(60);

/// Who somebody is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    pub name: String,
    pub uid: Option<String>,
    pub groups: Vec<String>,
}

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub certificate: String,
    pub key: String,
}

/// A certificate authority, ours or a cluster's.
#[derive(Debug)]
pub(crate) struct Authority {
    /// The subject as its own certificate spells it, byte by byte.
    issuer: Vec<u8>,
    certificate: String,
    key: KeyPair,
}

impl Authority {
    /// A new one, valid for ten years.
    pub(crate) fn new(name: &str) -> Result<(Self, CertifiedIssuer<'static, KeyPair>)> {
        let failed = |error: rcgen::Error| certificate_error(name)(error);
        let key = KeyPair::generate().map_err(failed)?;
        let key_pem = key.serialize_pem();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        (params.not_before, params.not_after) = validity(TEN_YEARS);
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(failed)?;
        Ok((Self::from_pem(&issuer.pem(), &key_pem)?, issuer))
    }

    /// One whose certificate and key are at hand; the key may be PKCS #8, or an RSA key in PKCS #1.
    pub(crate) fn from_pem(certificate: &str, key: &str) -> Result<Self> {
        let parsed = pem::parse(certificate).map_err(Error::parse("the CA's certificate"))?;
        let (_, x509) = x509_parser::certificate::X509Certificate::from_der(parsed.contents())
            .map_err(Error::parse("the CA's certificate"))?;
        let key_der = pem::parse(key).map_err(Error::parse("the CA's key"))?;
        let key_der = match key_der.tag() {
            "RSA PRIVATE KEY" => pkcs8(key_der.contents()),
            _ => key_der.contents().to_vec(),
        };
        let key = KeyPair::try_from(key_der).map_err(Error::parse("the CA's key"))?;
        Ok(Self {
            issuer: x509.subject().as_raw().to_vec(),
            certificate: certificate.to_owned(),
            key,
        })
    }

    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// A client certificate that is accepted until now + `valid_for`, rounded down to a second, and for ten years at most.
    pub(crate) fn client(&self, subject: &Subject, valid_for: Duration) -> Result<Pair> {
        let key = KeyPair::generate().map_err(certificate_error(&subject.name))?;
        let (not_before, not_after) = validity(valid_for);
        let algorithm = |writer: DERWriter<'_>| write_algorithm(writer, &self.key);
        let body = construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_tagged(Tag::context(0), |writer| writer.write_i8(2));
                writer.next().write_u64(serial());
                algorithm(writer.next());
                writer.next().write_der(&self.issuer);
                writer.next().write_sequence(|writer| {
                    write_time(writer.next(), not_before);
                    write_time(writer.next(), not_after);
                });
                write_subject(writer.next(), subject);
                writer.next().write_der(&key.subject_public_key_info());
                writer
                    .next()
                    .write_tagged(Tag::context(3), |writer| writer.write_sequence(write_client_extensions));
            });
        });
        let signed = self.key.sign(&body).map_err(certificate_error(&subject.name))?;
        Ok(Pair {
            certificate: pem("CERTIFICATE", envelope(&body, algorithm, &signed)),
            key: key.serialize_pem(),
        })
    }
}

/// A certificate request for `subject` and its key.
pub(crate) fn request(subject: &Subject) -> Result<Pair> {
    let key = KeyPair::generate().map_err(certificate_error(&subject.name))?;
    let body = construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_i8(0);
            write_subject(writer.next(), subject);
            writer.next().write_der(&key.subject_public_key_info());
            writer
                .next()
                .write_tagged_implicit(Tag::context(0), |writer| writer.write_set(|_| ()));
        });
    });
    let signed = key.sign(&body).map_err(certificate_error(&subject.name))?;
    let request = envelope(&body, |writer| write_algorithm(writer, &key), &signed);
    Ok(Pair {
        certificate: pem("CERTIFICATE REQUEST", request),
        key: key.serialize_pem(),
    })
}

/// The API server's own certificate.
pub(crate) fn serving(issuer: &CertifiedIssuer<'static, KeyPair>, names: &[&str]) -> Result<Pair> {
    let failed = |error: rcgen::Error| certificate_error("kube-apiserver")(error);
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    (params.not_before, params.not_after) = validity(TEN_YEARS);
    let certificate = params.signed_by(&key, issuer).map_err(failed)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// A key that signs service accounts' tokens, and the public key that verifies them.
pub(crate) fn signing_key() -> Result<(String, String)> {
    let key = KeyPair::generate().map_err(certificate_error("service accounts"))?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

pub(crate) const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

fn validity(valid_for: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let seconds = valid_for.min(TEN_YEARS).as_secs();
    (now - BACKDATED, now + Duration::from_secs(seconds))
}

/// Two digits of a year up to 2049, four after it, as X.509 wants.
fn write_time(writer: DERWriter<'_>, time: OffsetDateTime) {
    if time.year() < 2050 {
        writer.write_utctime(&UTCTime::from_datetime(time));
    } else {
        writer.write_generalized_time(&GeneralizedTime::from_datetime(time));
    }
}

/// Random enough to differ; nobody relies on more.
fn serial() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) >> 1 | 1
}

fn write_subject(writer: DERWriter<'_>, subject: &Subject) {
    let attribute = |writer: &mut DERWriterSeq<'_>, kind: &[u64], value: &str| {
        writer.next().write_set(|writer| {
            writer.next().write_sequence(|writer| {
                writer.next().write_oid(&ObjectIdentifier::from_slice(kind));
                writer.next().write_utf8_string(value);
            });
        });
    };
    writer.write_sequence(|writer| {
        for group in &subject.groups {
            attribute(writer, ORGANISATION, group);
        }
        attribute(writer, COMMON_NAME, &subject.name);
        if let Some(uid) = &subject.uid {
            attribute(writer, UID, uid);
        }
    });
}

fn write_client_extensions(writer: &mut DERWriterSeq<'_>) {
    let digital_signature = construct_der(|writer| writer.write_bitvec_bytes(&[0x80], 1));
    writer.next().write_sequence(|writer| {
        writer.next().write_oid(&ObjectIdentifier::from_slice(KEY_USAGE));
        writer.next().write_bool(true);
        writer.next().write_bytes(&digital_signature);
    });
    let client_auth = construct_der(|writer| {
        writer.write_sequence(|writer| writer.next().write_oid(&ObjectIdentifier::from_slice(CLIENT_AUTH)));
    });
    writer.next().write_sequence(|writer| {
        writer
            .next()
            .write_oid(&ObjectIdentifier::from_slice(EXTENDED_KEY_USAGE));
        writer.next().write_bytes(&client_auth);
    });
}

fn write_algorithm(writer: DERWriter<'_>, key: &KeyPair) {
    writer.write_sequence(|writer| {
        if key.algorithm() == &rcgen::PKCS_RSA_SHA256 {
            writer.next().write_oid(&ObjectIdentifier::from_slice(RSA_SHA256));
            writer.next().write_null();
        } else {
            writer.next().write_oid(&ObjectIdentifier::from_slice(ECDSA_SHA256));
        }
    });
}

fn envelope(body: &[u8], algorithm: impl Fn(DERWriter<'_>), signature: &[u8]) -> Vec<u8> {
    construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(body);
            algorithm(writer.next());
            writer.next().write_bitvec_bytes(signature, signature.len() * 8);
        });
    })
}

/// Wraps an RSA key as kubeadm writes it (PKCS #1) so that it can be read here.
fn pkcs8(rsa: &[u8]) -> Vec<u8> {
    construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_i8(0);
            writer.next().write_sequence(|writer| {
                writer.next().write_oid(&ObjectIdentifier::from_slice(RSA));
                writer.next().write_null();
            });
            writer.next().write_bytes(rsa);
        });
    })
}

fn pem(tag: &str, der: Vec<u8>) -> String {
    pem::encode(&pem::Pem::new(tag, der))
}

fn certificate_error(name: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let name = name.to_owned();
    move |error| Error::Certificate {
        name,
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Subject {
        Subject {
            name: "alice".into(),
            uid: Some("a-1".into()),
            groups: vec!["dev".into(), "sre".into()],
        }
    }

    fn attributes(name: &x509_parser::x509::X509Name<'_>, kind: &str) -> Vec<String> {
        name.iter_attributes()
            .filter(|attribute| attribute.attr_type().to_id_string() == kind)
            .map(|attribute| attribute.as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_client_certificate_says_name_groups_and_uid_and_ends_in_time() {
        let (authority, _) = Authority::new("ca").unwrap();
        let before = OffsetDateTime::now_utc().unix_timestamp();
        let pair = authority.client(&alice(), Duration::from_secs(90)).unwrap();
        let der = pem::parse(pair.certificate).unwrap();
        let ca = pem::parse(authority.certificate_pem()).unwrap();
        let (_, ca) = x509_parser::certificate::X509Certificate::from_der(ca.contents()).unwrap();
        let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der.contents()).unwrap();

        assert_eq!(attributes(certificate.subject(), "2.5.4.3"), ["alice"]);
        assert_eq!(attributes(certificate.subject(), "2.5.4.10"), ["dev", "sre"]);
        assert_eq!(attributes(certificate.subject(), "1.3.6.1.4.1.57683.2"), ["a-1"]);
        assert_eq!(certificate.issuer().as_raw(), ca.subject().as_raw());
        let left = certificate.validity().not_after.timestamp() - before;
        assert!((89..=91).contains(&left), "{left} s");
    }

    #[test]
    fn a_request_says_the_same_subject() {
        let pair = request(&alice()).unwrap();
        let der = pem::parse(pair.certificate).unwrap();
        let (_, request) =
            x509_parser::certification_request::X509CertificationRequest::from_der(der.contents()).unwrap();
        let subject = &request.certification_request_info.subject;
        assert_eq!(attributes(subject, "2.5.4.3"), ["alice"]);
        assert_eq!(attributes(subject, "2.5.4.10"), ["dev", "sre"]);
    }
}
