//! Certificate and key, from files that may be replaced while they are used.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use cxi_node::log::chain;
use rustls::{
    ServerConfig,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

/// Time between two looks at the files. Kubernetes needs up to a minute to bring a changed Secret to a pod.
const FILES_CHECK_PERIOD: Duration = Duration::from_secs(30);

/// Certificate and key in use.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Current>,
}

#[derive(Clone, Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// Contents of the files, to see that they changed.
    read: (Vec<u8>, Vec<u8>),
}

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not PEM, or not of what it should.
    #[error("{} holds no {expected} in PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// Why.
        source: pem::Error,
    },
    /// They do not fit together, or are of a kind that is not supported.
    #[error("use the certificate {} with the key {}", certificate.display(), key.display())]
    Mismatch {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let current = Current::load(&certificate, &key)?;
        Ok(Self { certificate, key, current: RwLock::new(current) })
    }

    /// Accepts a connection with what is in use now.
    pub fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current.config))
    }

    /// Takes up changed files for ever. What cannot be used is said once, and the old stays in use.
    pub async fn follow(&self) {
        let mut refused = None;
        loop {
            tokio::time::sleep(FILES_CHECK_PERIOD).await;
            match self.reload() {
                Ok(true) => {
                    info!(certificate = %self.certificate.display(), "the certificate was read again");
                    refused = None;
                }
                Ok(false) => refused = None,
                Err(error) => {
                    let text = chain(&error);
                    if refused.as_ref() != Some(&text) {
                        warn!("the old certificate stays in use: {text}");
                        refused = Some(text);
                    }
                }
            }
        }
    }

    /// Reads the files again, and tells whether they changed.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let read = (read(&self.certificate)?, read(&self.key)?);
        if self.current.read().unwrap_or_else(PoisonError::into_inner).read == read {
            return Ok(false);
        }
        let current = Current::parse(&self.certificate, &self.key, read)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(true)
    }
}

impl Current {
    fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::parse(certificate, key, (read(certificate)?, read(key)?))
    }

    fn parse(certificate: &Path, key: &Path, read: (Vec<u8>, Vec<u8>)) -> Result<Self, TlsError> {
        let no_certificate = |source| TlsError::Pem { path: certificate.into(), expected: "certificate", source };
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&read.0).collect::<Result<_, _>>().map_err(no_certificate)?;
        if chain.is_empty() {
            return Err(no_certificate(pem::Error::NoItemsFound));
        }
        let private = PrivateKeyDer::from_pem_slice(&read.1).map_err(|source| TlsError::Pem {
            path: key.into(),
            expected: "private key",
            source,
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
        let mut config =
            config.map_err(|source| TlsError::Mismatch { certificate: certificate.into(), key: key.into(), source })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), read })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(directory: &Path) {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(directory.join("tls.crt"), pair.cert.pem()).unwrap();
        fs::write(directory.join("tls.key"), pair.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn changed_files_are_taken_up_and_broken_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
        write_pair(directory.path());
        let tls = Tls::load(certificate.clone(), key.clone()).unwrap();
        let in_use = || Arc::as_ptr(&tls.current.read().unwrap().config);
        let first = in_use();
        assert!(!tls.reload().unwrap());

        let old_key = fs::read(&key).unwrap();
        write_pair(directory.path());
        let new_key = fs::read(&key).unwrap();
        fs::write(&key, &old_key).unwrap();
        assert!(matches!(tls.reload(), Err(TlsError::Mismatch { .. })));
        fs::write(&key, "no key").unwrap();
        let error = tls.reload().unwrap_err();
        assert!(error.to_string().contains("tls.key holds no private key"), "{error}");
        fs::write(&certificate, "").unwrap();
        assert!(tls.reload().unwrap_err().to_string().contains("tls.crt holds no certificate"));
        fs::remove_file(&key).unwrap();
        assert!(matches!(tls.reload(), Err(TlsError::Read { .. })));
        assert_eq!(in_use(), first);

        write_pair(directory.path());
        assert_ne!(fs::read(&key).unwrap(), new_key);
        assert!(tls.reload().unwrap());
        assert_ne!(in_use(), first);
    }
}
