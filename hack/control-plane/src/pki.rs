//! The certificates of one control plane: an authority made at each start, and what it signs.

use std::net::{IpAddr, Ipv4Addr};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::{
    addresses::API_SERVICE,
    error::{Error, Result},
};

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A key pair without a certificate, both PEM.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub(crate) private: String,
    pub(crate) public: String,
}

/// A certificate authority that lives in memory.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority.
    pub(crate) fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "cxi-control-plane");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = KeyPair::generate()
            .and_then(|key| CertifiedIssuer::self_signed(params, key))
            .map_err(failed("authority's"))?;
        Ok(Self { issuer })
    }

    /// The authority's certificate, PEM.
    pub(crate) fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A server certificate for the loopback address, and for what pods call the API server by.
    pub(crate) fn server(&self) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "loopback");
        params.subject_alt_names =
            [Ipv4Addr::LOCALHOST, API_SERVICE].map(|address| SanType::IpAddress(IpAddr::V4(address))).to_vec();
        for name in ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"] {
            let name = name.try_into().map_err(failed("server's"))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params, "server's")
    }

    /// A client certificate: what the API server takes as a user name and, if given, the user's group.
    pub(crate) fn client(&self, user: &str, group: Option<&str>) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params, user)
    }

    fn sign(&self, params: &CertificateParams, what: &str) -> Result<Pair> {
        let key = KeyPair::generate().map_err(failed(what))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed(what))?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// Keys to sign service account tokens with.
pub(crate) fn signing_keys() -> Result<Keys> {
    let key = KeyPair::generate().map_err(failed("service accounts'"))?;
    Ok(Keys { private: key.serialize_pem(), public: key.public_key_pem() })
}

fn failed(what: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let what = what.to_owned();
    move |source| Error::Certificate { what, source }
}
