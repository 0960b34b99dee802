//! Errors of TLS connections, by who erred.

use rustls::{AlertDescription, CertificateError, OtherError};

use crate::certificate::ChainError;

/// Who is to blame for an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// The other side sent something wrong, or something that is not accepted here.
    Peer,
    /// The caller or the machine: wrong configuration, buffer too small, no randomness.
    Local,
    /// Neither should be able to cause it.
    Impossible,
}

/// What was wrong with a record after the handshake. Each has its alert in RFC 8446.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    #[error("a record was changed on the way, or is not encrypted with the session's key")]
    BadRecordMac,
    #[error("a record is longer than TLS allows")]
    RecordOverflow,
    #[error("a message came that has no place here")]
    UnexpectedMessage,
    #[error("a message has a value that TLS does not know")]
    IllegalParameter,
    #[error("a message is malformed")]
    DecodeError,
    #[error("too many records without application data")]
    TooManyEmptyRecords,
}

impl RecordFault {
    pub(super) fn alert(self) -> AlertDescription {
        match self {
            Self::BadRecordMac => AlertDescription::BadRecordMac,
            Self::RecordOverflow => AlertDescription::RecordOverflow,
            Self::UnexpectedMessage | Self::TooManyEmptyRecords => AlertDescription::UnexpectedMessage,
            Self::IllegalParameter => AlertDescription::IllegalParameter,
            Self::DecodeError => AlertDescription::DecodeError,
        }
    }
}

/// Why a connection cannot go on. After an error of `handshake` or `open` the channel is of no more use.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TlsError {
    #[error("TLS handshake: {0}")]
    Handshake(rustls::Error),
    #[error("the router's certificates were refused: {0}")]
    Identity(#[from] ChainError),
    #[error("the other side ended the connection with TLS alert {0:?}")]
    Alert(AlertDescription),
    #[error("the other side closed the connection during the TLS handshake")]
    ClosedInHandshake,
    #[error("TLS record: {0}")]
    Record(#[from] RecordFault),
    #[error("the TLS handshake is not complete")]
    NotEstablished,
    #[error("the TLS connection failed or was closed before")]
    Ended,
    #[error("{required} bytes of buffer are needed, {given} were given")]
    BufferTooSmall { required: usize, given: usize },
    #[error("TLS configuration: {0}")]
    Configuration(&'static str),
    #[error("local TLS error: {0}")]
    Local(rustls::Error),
    #[error("TLS: this cannot happen: {0}")]
    Impossible(&'static str),
}

impl TlsError {
    pub fn culprit(&self) -> Culprit {
        match self {
            Self::Handshake(_)
            | Self::Identity(_)
            | Self::Alert(_)
            | Self::ClosedInHandshake
            | Self::Record(_) => Culprit::Peer,
            Self::NotEstablished
            | Self::Ended
            | Self::BufferTooSmall { .. }
            | Self::Configuration(_)
            | Self::Local(_) => Culprit::Local,
            Self::Impossible(_) => Culprit::Impossible,
        }
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        use rustls::Error;
        match &error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
                match other.downcast_ref::<ChainError>() {
                    Some(chain) => Self::Identity(chain.clone()),
                    None => Self::Handshake(error),
                }
            }
            Error::AlertReceived(alert) => Self::Alert(*alert),
            Error::EncryptError
            | Error::FailedToGetCurrentTime
            | Error::FailedToGetRandomBytes
            | Error::HandshakeNotComplete
            | Error::BadMaxFragmentSize
            | Error::InconsistentKeys(_)
            | Error::General(_) => Self::Local(error),
            _ => Self::Handshake(error),
        }
    }
}
