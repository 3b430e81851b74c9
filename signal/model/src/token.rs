//! Bearer secrets: shown once to their holder, stored only as hashes.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A secret of 160 random bits as 40 hexadecimal characters; prints redacted.
///
/// Host tokens, resume tokens and person keys are all tokens. Enough bits that guessing is hopeless, so a
/// plain SHA-256 is a safe way to store one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// A fresh secret.
    #[must_use]
    pub fn random() -> Self {
        use std::fmt::Write as _;
        let bytes: [u8; 20] = rand::random();
        let mut text = String::with_capacity(40);
        for byte in bytes {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
        }
        Self(text)
    }

    /// Takes a presented secret as it is; anything that is no token of ours simply matches no hash.
    #[must_use]
    pub fn presented(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The secret itself, for its holder only.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is stored and compared. Comparing hashes leaks nothing about the secret through timing.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// SHA-256 of a [`Token`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The 32 bytes, as stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads a stored hash; `None` unless it has 32 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_prints_its_secret() {
        let token = Token::random();
        assert!(!format!("{token:?}{:?}", token.hash()).contains(token.as_str()));
        assert_eq!(token.hash(), Token::presented(token.as_str()).hash());
        assert_ne!(token.hash(), Token::random().hash());
    }
}
