//! Digests to be read aloud.

use bip39::Mnemonic;

/// SHA-256 as 24 words of the English list of BIP 39: the last of them is a checksum too, so that one misheard is noticed.
pub fn words(digest: &[u8; 32]) -> String {
    Mnemonic::from_entropy(digest).map(|words| words.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    /// The last vector of BIP 39's own list for 32 bytes of 0x7F, and of zeros.
    #[test]
    fn words_are_those_of_the_list() {
        assert_eq!(
            super::words(&[0x7F; 32]),
            "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth title"
        );
        assert!(super::words(&[0; 32]).ends_with("abandon art"));
    }
}
