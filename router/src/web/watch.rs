//! Looks from time to time whether files of the web side have changed: certificates are renewed by programs that know nothing
//! of the router.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ringpost_protocol::certificate::WebCertificate;
use ringpost_protocol::websocket::pages::Pages;

use super::files::{self, Listing, Site};
use crate::identity;
use crate::settings::WebSettings;

/// Looking costs a few system calls.
const EVERY: Duration = Duration::from_secs(2);

/// What is watched, for the rest of the process.
pub struct Watch {
    pub certificate: Option<(WebSettings, WebCertificate)>,
    pub pages: Option<WatchedPages>,
}

pub struct WatchedPages {
    pub directory: PathBuf,
    pub site: Site,
    pub listing: Listing,
    pub pages: Pages,
}

/// Size, time and number of a file: another one has others.
type Seen = Option<(u64, Option<SystemTime>, u64)>;

fn seen(path: &Path) -> Seen {
    use std::os::unix::fs::MetadataExt;
    // Of what a link leads to: certbot changes links.
    let metadata = path.metadata().ok()?;
    Some((metadata.len(), metadata.modified().ok(), metadata.ino()))
}

impl Watch {
    pub fn start(self) {
        if self.certificate.is_none() && self.pages.is_none() {
            return;
        }
        let watch = std::thread::Builder::new().name("web-files".to_owned()).spawn(move || self.run());
        if let Err(error) = watch {
            tracing::warn!("changed files of the web side will be seen at the next start only: {error}");
        }
    }

    fn run(mut self) {
        let files = |settings: &WebSettings| [seen(&settings.certificate), seen(&settings.key)];
        let mut loaded = self.certificate.as_ref().map(|(settings, _)| files(settings));
        loop {
            std::thread::sleep(EVERY);
            if let Some((settings, certificate)) = &self.certificate {
                let found = Some(files(settings));
                if found != loaded {
                    loaded = found;
                    renew(settings, certificate);
                }
            }
            if let Some(watched) = &mut self.pages {
                let listing = files::list(&watched.directory);
                if listing != watched.listing {
                    watched.pages.replace(files::read(&watched.directory, &listing, &watched.site));
                    watched.listing = listing;
                }
            }
        }
    }
}

/// Between the two renamings of a renewal the files do not belong together: then the old certificate stays until the next
/// change.
fn renew(settings: &WebSettings, certificate: &WebCertificate) {
    match identity::load_web(settings) {
        Ok(new) => {
            certificate.renew(&new);
            tracing::info!("loaded the changed certificate for web clients");
        }
        Err(error) => tracing::warn!("the old certificate for web clients stays: {}", error.message),
    }
}
