//! Python package indexes: the page of a package links to its files (PEP 503, which every index and mirror has).

use reqwest::Url;

use super::{FetchConfig, FetchError, Published, Site, download::Downloader};

/// Where a wheel is. `file`: package, file name, SHA-256.
pub(super) fn published(
    config: &FetchConfig,
    (package, wheel, sha256): (&str, &str, &str),
    downloader: &Downloader<'_>,
) -> Result<Published, FetchError> {
    let page = format!("{}/{package}/", config.index.url);
    let html = downloader.text(&page, config.index.authorization.as_deref())?;
    let url = link(&html, wheel).and_then(|link| Url::parse(&page).ok()?.join(&link).ok());
    match url {
        Some(url) => {
            let file = Site::of(url.as_str());
            let own = config.index.authorization.clone().filter(|_| config.index.serves(&url));
            Ok(Published { url: file.url, sha256: sha256.into(), authorization: file.authorization.or(own) })
        }
        None => Err(FetchError::Answer { url: page, what: format!("the index does not list {wheel}") }),
    }
}

/// The address of the first link whose path ends with this file name, without its fragment.
fn link(html: &str, file: &str) -> Option<String> {
    let targets = html.split("href=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|c| ['"', '\''].contains(c))?;
        rest[1..].split(quote).next()
    });
    let mut addresses = targets.map(|target| target.split('#').next().unwrap_or_default().replace("&amp;", "&"));
    addresses.find(|address| address.split('?').next().is_some_and(|path| path.rsplit('/').next() == Some(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_link_is_found_among_others() {
        let html = r#"<a href="../../packages/x-0.1.tar.gz#sha256=1">x</a><a data-requires-python="&gt;=3"
            href='../../packages/ab/x-0.1-py3-none-any.whl?a=1&amp;b=2#sha256=2'>y</a><a href=z>"#;
        assert_eq!(link(html, "x-0.1.tar.gz").as_deref(), Some("../../packages/x-0.1.tar.gz"));
        assert_eq!(
            link(html, "x-0.1-py3-none-any.whl").as_deref(),
            Some("../../packages/ab/x-0.1-py3-none-any.whl?a=1&b=2")
        );
        assert_eq!((link(html, "any.whl"), link("", "x")), (None, None));
    }
}
