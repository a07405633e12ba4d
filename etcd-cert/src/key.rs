//! Reading private keys. Nothing of a key ever stands in an error.

use anyhow::{Result, bail};
use rcgen::KeyPair;
use x509_parser::pem::Pem;

/// What stands in an AlgorithmIdentifier, in DER: rsaEncryption (RFC 8017,
/// A.1), and ecPublicKey (RFC 5480) with each curve.
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
const P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const P384: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";

/// Reads the first private key of a PEM file: PKCS#8, PKCS#1 (RSA) or SEC1 (EC).
///
/// The error says what is wrong, without the name of the file.
pub(crate) fn parse(pem: &[u8]) -> Result<KeyPair> {
    if pem.windows(9).any(|word| word == b"ENCRYPTED") {
        bail!("is encrypted: decrypt it first, as with openssl pkey");
    }
    for block in Pem::iter_from_buffer(pem) {
        let Ok(block) = block else { bail!("is not a whole PEM file") };
        let key = block.contents.as_slice();
        let pkcs8 = match block.label.as_str() {
            "PRIVATE KEY" => vec![key.to_vec()],
            "RSA PRIVATE KEY" => vec![wrap(RSA, key)],
            "EC PRIVATE KEY" => vec![wrap(P256, key), wrap(P384, key)],
            _ => continue,
        };
        return match pkcs8.into_iter().find_map(|der| KeyPair::try_from(der).ok()) {
            Some(key) => Ok(key),
            None => bail!("is no key of P-256, P-384, Ed25519 or RSA with 2048 to 4096 bits"),
        };
    }
    bail!("holds no private key")
}

/// PKCS#8 (RFC 5208) around a key of an older form, the only one that ring reads.
fn wrap(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let version = der(0x02, &[0]);
    der(0x30, &[version, der(0x30, algorithm), der(0x04, key)].concat())
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut value = vec![tag];
    match length.as_slice() {
        [] => value.push(0),
        [short @ 0..0x80] => value.push(*short),
        // At most 8 bytes.
        long => {
            value.push(0x80 | long.len() as u8);
            value.extend(long);
        }
    }
    value.extend(content);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_in_der_are_as_short_as_they_can_be() {
        assert_eq!(der(4, &[]), [4, 0]);
        assert_eq!(der(4, &[7; 0x7f])[..3], [4, 0x7f, 7]);
        assert_eq!(der(4, &[7; 0x80])[..4], [4, 0x81, 0x80, 7]);
        assert_eq!(der(4, &[7; 0x123])[..5], [4, 0x82, 0x01, 0x23, 7]);
    }
}
