//! `[INFORMATION]`: what the page for browsers says about the router and who runs it.

use super::keys::INFORMATION;
use super::values;
use crate::ini::{Ini, IniError};

const COUNTRY: &str = "the two letters of a country, as DE";
const HOSTING_TYPE: &str = "`virtual`, `dedicated`, `colocation` or `owned`";
const LINK: &str = "a SimpleX address, which begins with simplex:/ or https://";

/// All of it may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Information {
    pub source_code: Option<String>,
    pub usage_conditions: Option<String>,
    pub condition_amendments: Option<String>,
    pub server_country: Option<String>,
    pub operator: Entity,
    pub website: Option<String>,
    pub admin: Contact,
    pub complaints: Contact,
    pub hosting: Entity,
    pub hosting_type: Option<HostingType>,
}

/// A person or an organization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entity {
    pub name: Option<String>,
    /// Two capital letters.
    pub country: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    pub simplex: Option<String>,
    pub email: Option<String>,
    pub pgp: Option<String>,
    pub pgp_fingerprint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostingType {
    Virtual,
    Dedicated,
    Colocation,
    Owned,
}

impl HostingType {
    const ALL: [Self; 4] = [Self::Virtual, Self::Dedicated, Self::Colocation, Self::Owned];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Virtual => "virtual",
            Self::Dedicated => "dedicated",
            Self::Colocation => "colocation",
            Self::Owned => "owned",
        }
    }
}

impl Information {
    /// A key without a value counts as not set.
    pub fn read(ini: &Ini) -> Result<Self, IniError> {
        let text = |key: &str| of(ini, key, values::HOST, values::text);
        let country = |key: &str| of(ini, key, COUNTRY, country);
        let contact = |who: &str| {
            Ok::<_, IniError>(Contact {
                simplex: of(ini, &format!("{who}_simplex"), LINK, link)?,
                email: text(&format!("{who}_email"))?,
                pgp: text(&format!("{who}_pgp"))?,
                pgp_fingerprint: text(&format!("{who}_pgp_fingerprint"))?,
            })
        };
        Ok(Self {
            source_code: text("source_code")?,
            usage_conditions: text("usage_conditions")?,
            condition_amendments: text("condition_amendments")?,
            server_country: country("server_country")?,
            operator: Entity { name: text("operator")?, country: country("operator_country")? },
            website: text("website")?,
            admin: contact("admin")?,
            complaints: contact("complaints")?,
            hosting: Entity { name: text("hosting")?, country: country("hosting_country")? },
            hosting_type: of(ini, "hosting_type", HOSTING_TYPE, |text| {
                HostingType::ALL.into_iter().find(|kind| kind.name() == text)
            })?,
        })
    }
}

fn of<T>(
    ini: &Ini,
    key: &str,
    allowed: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, IniError> {
    let read = |text: &str| if text.is_empty() { Some(None) } else { read(text).map(Some) };
    Ok(ini.value(INFORMATION, key, allowed, read)?.flatten())
}

fn country(text: &str) -> Option<String> {
    let is_code = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_code.then(|| text.to_ascii_uppercase())
}

fn link(text: &str) -> Option<String> {
    values::text(text).filter(|link| link.starts_with("simplex:/") || link.starts_with("https://"))
}
