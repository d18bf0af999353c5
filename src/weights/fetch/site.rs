//! A server's address, and what proves to it who asks.

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Url;

/// A server that files are fetched from.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its address, without a user's name and password, and without a slash at its end.
    pub url: String,
    /// The header `Authorization` that is for it alone.
    pub authorization: Option<String>,
}

impl Site {
    /// A user's name and password in the address become the header, so that no message and no manifest has them.
    pub(super) fn of(address: &str) -> Self {
        let Ok(mut url) = Url::parse(address) else {
            return Self { url: address.trim_end_matches('/').to_owned(), authorization: None };
        };
        let user = [decoded(url.username()), decoded(url.password().unwrap_or_default())].join(&b':');
        let authorization = (user != b":").then(|| format!("Basic {}", STANDARD.encode(user)));
        // Addresses that have no server refuse it; they have no user either.
        let _ = (url.set_username(""), url.set_password(None));
        Self { url: url.as_str().trim_end_matches('/').to_owned(), authorization }
    }

    /// Whether the address is of the same server.
    pub(super) fn serves(&self, url: &Url) -> bool {
        Url::parse(&self.url).is_ok_and(|own| own.origin() == url.origin())
    }
}

/// The bytes that a text stands for in which `%40` is an `@`.
fn decoded(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => bytes.extend([&[byte], &part.as_bytes()[2..]].concat()),
            None => bytes.extend([b"%", part.as_bytes()].concat()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_in_an_address_becomes_a_header() {
        for (address, url, user) in [
            ("https://pypi.org/simple/", "https://pypi.org/simple", None),
            ("https://huggingface.co", "https://huggingface.co", None),
            ("https://me:p%40ss%2x@host:81/simple", "https://host:81/simple", Some("me:p@ss%2x")),
            ("https://token@host/", "https://host", Some("token:")),
        ] {
            let site = Site::of(address);
            let expected = user.map(|user| format!("Basic {}", STANDARD.encode(user)));
            assert_eq!((site.url.as_str(), site.authorization), (url, expected));
        }
    }
}
