//! The server's side of an exchange: a client logs in with us.

use super::attributes::{check_nonce, decode_key, encode, take};
use super::crypto::{ClientKey, hmac, is_equal, xor};
use super::{ScramError, Verifier};

/// One login of a client, between its messages.
#[derive(Clone, Debug)]
pub struct ServerExchange {
    verifier: Verifier,
    step: Step,
}

#[derive(Clone, Debug)]
enum Step {
    First {
        nonce: String,
    },
    Final {
        /// `c=` of the last message must repeat the header of the first one.
        binding: &'static [u8],
        nonce: Vec<u8>,
        /// The two first messages and a comma each, as they are signed.
        transcript: Vec<u8>,
    },
}

impl ServerExchange {
    /// Begins an exchange. `nonce` is random.
    pub fn new(verifier: Verifier, nonce: [u8; 18]) -> Self {
        let nonce = encode(&nonce);
        Self {
            verifier,
            step: Step::First { nonce },
        }
    }

    /// Takes the client's first message and gives the answer to it.
    ///
    /// # Errors
    /// [`ScramError`] when it is malformed, or asks for what we do not offer.
    pub fn first(self, client_first: &[u8]) -> Result<(Self, Vec<u8>), ScramError> {
        let Step::First { nonce: ours } = self.step else {
            return Err(ScramError::OutOfOrder);
        };
        let (binding, bare) = header(client_first)?;
        let mut rest = bare;
        // The name is ignored, as PostgreSQL does: the start-up message has it.
        take(&mut rest, b'n')?;
        let theirs = check_nonce(take(&mut rest, b'r')?)?;
        let nonce = [theirs, ours.as_bytes()].concat();

        let verifier = self.verifier;
        let mut answer = b"r=".to_vec();
        answer.extend_from_slice(&nonce);
        let salt = encode(&verifier.salt);
        answer.extend_from_slice(format!(",s={salt},i={}", verifier.iterations).as_bytes());

        let transcript = [bare, b",", &answer, b","].concat();
        let step = Step::Final {
            binding,
            nonce,
            transcript,
        };
        Ok((Self { verifier, step }, answer))
    }

    /// Takes the client's last message; gives ours, and the key that the client has proved to know.
    ///
    /// # Errors
    /// [`ScramError::WrongProof`] when the password is wrong; others when the message is malformed
    /// or belongs to another exchange.
    pub fn finish(self, client_final: &[u8]) -> Result<(Vec<u8>, ClientKey), ScramError> {
        let Step::Final {
            binding,
            nonce,
            transcript,
        } = self.step
        else {
            return Err(ScramError::OutOfOrder);
        };
        let (signed, proof) = split_proof(client_final)?;
        let mut rest = signed;
        if take(&mut rest, b'c')? != binding {
            return Err(ScramError::Malformed);
        }
        if take(&mut rest, b'r')? != nonce {
            return Err(ScramError::Nonce);
        }
        let parts = [transcript.as_slice(), signed];
        let signature = hmac(&self.verifier.stored_key, &parts);
        let client_key = ClientKey::from_bytes(xor(&proof, &signature));
        if !is_equal(&client_key.stored_key(), &self.verifier.stored_key) {
            return Err(ScramError::WrongProof);
        }
        let signature = hmac(self.verifier.server_key.as_bytes(), &parts);
        Ok((format!("v={}", encode(&signature)).into_bytes(), client_key))
    }
}

/// Splits the header off, and says how the last message must repeat it.
fn header(message: &[u8]) -> Result<(&'static [u8], &[u8]), ScramError> {
    match message {
        [b'n', b',', b',', bare @ ..] => Ok((b"biws", bare)),
        // The client could do channel binding and thinks that we cannot: so it is.
        [b'y', b',', b',', bare @ ..] => Ok((b"eSws", bare)),
        [b'p', b'=', ..] => Err(ScramError::ChannelBinding),
        [b'n' | b'y', b',', b'a', b'=', ..] => Err(ScramError::AuthorizationIdentity),
        _ => Err(ScramError::Malformed),
    }
}

/// The proof is the last attribute; all before it is signed.
fn split_proof(message: &[u8]) -> Result<(&[u8], [u8; 32]), ScramError> {
    let comma = memchr::memrchr(b',', message).ok_or(ScramError::Malformed)?;
    let (signed, proof) = message
        .split_at_checked(comma)
        .ok_or(ScramError::Malformed)?;
    match proof {
        [b',', b'p', b'=', proof @ ..] => Ok((signed, decode_key(proof)?)),
        _ => Err(ScramError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7677_holds() {
        let salt = super::super::attributes::decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let exchange = ServerExchange {
            verifier: Verifier::from_password(b"pencil", &salt, 4096),
            step: Step::First {
                nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(),
            },
        };
        let (exchange, answer) = exchange.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        let expected = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(answer, expected.as_bytes());
        let proof = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let (answer, _key) = exchange.finish(proof.as_bytes()).unwrap();
        assert_eq!(answer, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }
}
