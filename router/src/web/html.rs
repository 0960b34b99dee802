//! The text of the pages: small, readable without the network, without anything that is loaded from elsewhere.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringpost_protocol::certificate::fingerprint;

use crate::settings::Settings;
use crate::settings::information::{Contact, Entity};
use crate::version;

const STYLE: &str = include_str!("style.css");
const LINK_SCRIPT: &str = concat!(include_str!("qr.js"), include_str!("link.js"));
/// A speech bubble; without it browsers would ask for one.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath \
                    fill='%230550ae' d='M2 2h12v9H7l-4 3v-3H2z'/%3E%3C/svg%3E";
/// Where the app is to be had.
const DOWNLOADS: &str = "https://simplex.chat/downloads/";

/// The kinds of links, as the first part of their path, with what a person is told about them.
pub const LINK_KINDS: &[(&str, &str, &str)] = &[
    ("contact", "An address in the SimpleX network", "Somebody gave you an address to connect to."),
    ("invitation", "A one-time invitation", "Somebody invites you to connect. The link works once."),
    ("a", "An address in the SimpleX network", "Somebody gave you an address to connect to."),
    ("c", "A channel in the SimpleX network", "Somebody gave you the link of a channel."),
    ("g", "A group in the SimpleX network", "Somebody gave you the link of a group."),
    ("r", "A relay in the SimpleX network", "Somebody gave you the link of a relay."),
    ("i", "A one-time invitation", "Somebody invites you to connect. The link works once."),
];

/// A page, and the policy under which it works.
pub struct Html {
    pub text: String,
    pub policy: String,
}

/// What the operator tells about the router.
pub fn information(settings: &Settings) -> Html {
    let about = &settings.information;
    let mut server = Rows::default();
    server.text("Version", Some(&version::line()));
    server.text("Source code", about.source_code.as_deref());
    server.text("Website", about.website.as_deref());
    server.text("Conditions of use", about.usage_conditions.as_deref());
    server.text("Amendments to them", about.condition_amendments.as_deref());
    server.text("Country of the server", about.server_country.as_deref());
    server.entity("Operator", &about.operator);
    server.entity("Hosting provider", &about.hosting);
    server.text("Kind of hosting", about.hosting_type.map(crate::settings::information::HostingType::name));
    let mut contacts = Rows::default();
    contacts.contact("Administrator", &about.admin);
    contacts.contact("Complaints", &about.complaints);
    let mut service = Rows::default();
    let kept = if settings.store.is_some() { "Queues and messages" } else { "Nothing: memory only" };
    service.text("Kept over restarts", Some(kept));
    service.text("Messages are dropped after", Some(&days(settings.message_ttl_secs)));
    let new_queues = match (settings.allow_new_queues, &settings.create_password) {
        (false, _) => "No",
        (true, Some(_)) => "With a password",
        (true, None) => "Yes",
    };
    service.text("New users", Some(new_queues));
    service.text("Daily statistics", Some(if settings.operator.log_stats { "Yes" } else { "No" }));
    let mut body = String::from(
        "<h1>SimpleX messaging server</h1>\n<p>This server passes messages between users of SimpleX apps. It has no \
         accounts, and keeps a message only until it is delivered.</p>\n",
    );
    body.push_str(&server.table("About this server"));
    body.push_str(&contacts.table("Contacts"));
    body.push_str(&service.table("Service"));
    let onion = onion_host(&settings.host);
    let head = onion
        .map(|host| format!("<meta http-equiv=\"onion-location\" content=\"http://{}\">\n", escape(host)));
    page("SimpleX messaging server", &head.unwrap_or_default(), "", &body, None)
}

/// The page that a link of this kind leads to in a browser. What the link says stands behind `#`, which browsers keep for
/// themselves: a script puts it into the link for the app.
pub fn link(kind: &str, title: &str, meaning: &str) -> Html {
    let body = format!(
        "<h1>{title}</h1>\n<p>{meaning}</p>\n\
         <noscript><p>To open it, copy the whole address of this page and paste it into the SimpleX app. (What the link \
         says stands behind <code>#</code> in the address. Your browser does not send it to this server, and needs \
         JavaScript to pass it on to the app.)</p></noscript>\n\
         <p id=\"incomplete\" role=\"alert\" hidden>This link is not complete: nothing stands behind <code>#</code> in it. \
         Ask for it once more.</p>\n\
         <div id=\"steps\" hidden>\n<ol>\n\
         <li>Get the app, if you do not have it: <a href=\"{DOWNLOADS}\" rel=\"noreferrer noopener\">simplex.chat/downloads\
         </a></li>\n\
         <li><a class=\"button\" id=\"open\">Open in the SimpleX app</a></li>\n\
         <li id=\"scan\" hidden>Or scan this code with the app on another device:\n\
         <div class=\"code\" id=\"code\"></div></li>\n\
         <li>Or paste the link into the app:\n<code class=\"link\" id=\"link\"></code>\n\
         <p><button class=\"button\" id=\"copy\" type=\"button\" hidden>Copy the link</button> \
         <span id=\"copied\" role=\"status\"></span></p></li>\n</ol>\n</div>\n\
         <p>Only the app can read what the link says; it was not sent to this server.</p>\n"
    );
    page(title, "", &format!(" data-kind=\"{kind}\""), &body, Some(LINK_SCRIPT))
}

fn page(title: &str, head: &str, attributes: &str, body: &str, script: Option<&str>) -> Html {
    let scripts = script.map_or_else(|| "'none'".to_owned(), hash_source);
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {scripts}; img-src data:; base-uri 'none'; form-action 'none'",
        hash_source(STYLE)
    );
    let script = script.map(|script| format!("<script>{script}</script>\n")).unwrap_or_default();
    let text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<meta name=\"robots\" content=\"noindex\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n{head}\
         <title>{title}</title>\n<link rel=\"icon\" href=\"{ICON}\">\n<style>{STYLE}</style>\n</head>\n\
         <body{attributes}>\n<main>\n{body}</main>\n\
         <footer>This page loads nothing from elsewhere and sets no cookies. <a href=\"/\">Server information</a></footer>\n\
         {script}</body>\n</html>\n"
    );
    Html { text, policy: format!("{policy}; frame-ancestors 'none'") }
}

/// What a policy allows: this text within the page, and no other.
fn hash_source(text: &str) -> String {
    // A fingerprint is a SHA-256.
    format!("'sha256-{}'", STANDARD.encode(fingerprint(text.as_bytes())))
}

#[derive(Default)]
struct Rows(String);

impl Rows {
    fn html(&mut self, name: &str, html: &str) {
        let _ = writeln!(self.0, "<tr><th scope=\"row\">{name}</th><td>{html}</td></tr>");
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.html(name, &linked(value));
        }
    }

    fn entity(&mut self, name: &str, entity: &Entity) {
        match (&entity.name, &entity.country) {
            (Some(who), Some(country)) => self.html(name, &format!("{} ({})", escape(who), escape(country))),
            (Some(who), None) => self.html(name, &escape(who)),
            (None, Some(country)) => self.html(&format!("{name}: country"), &escape(country)),
            (None, None) => {}
        }
    }

    fn contact(&mut self, name: &str, contact: &Contact) {
        let mut ways = Vec::new();
        ways.extend(contact.simplex.as_deref().map(|link| format!("SimpleX: {}", linked(link))));
        ways.extend(contact.email.as_deref().map(|email| {
            let email = escape(email);
            format!("Email: <a href=\"mailto:{email}\">{email}</a>")
        }));
        ways.extend(contact.pgp.as_deref().map(|key| format!("PGP key: {}", linked(key))));
        ways.extend(
            contact.pgp_fingerprint.as_deref().map(|text| format!("PGP fingerprint: {}", escape(text))),
        );
        if !ways.is_empty() {
            self.html(name, &ways.join("<br>"));
        }
    }

    /// Nothing if there are no rows.
    fn table(&self, title: &str) -> String {
        match self.0.as_str() {
            "" => String::new(),
            rows => format!("<h2>{title}</h2>\n<table>\n{rows}</table>\n"),
        }
    }
}

/// Text that is a link where it is one of the web or of the app: no other scheme may run in a page.
fn linked(text: &str) -> String {
    let shown = escape(text);
    if ["https://", "http://", "simplex:/"].iter().any(|scheme| text.starts_with(scheme)) {
        format!("<a href=\"{shown}\" rel=\"noreferrer noopener\">{shown}</a>")
    } else {
        shown
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn days(secs: u64) -> String {
    match secs / 86_400 {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

fn onion_host(hosts: &str) -> Option<&str> {
    hosts.split(',').map(str::trim).find(|host| host.strip_suffix(".onion").is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;
    use crate::ini::Ini;

    fn settings(text: &str) -> Settings {
        let text = format!("{text}\n[TRANSPORT]\nport = 5223\n");
        Settings::read(&Ini::parse(Path::new("x.ini"), text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn what_the_operator_says_is_shown_and_nothing_else() {
        let text =
            information(&settings("[INFORMATION]\noperator = A & B <Ltd>\noperator_country = de")).text;
        assert!(text.contains("<td>A &amp; B &lt;Ltd&gt; (DE)</td>"), "{text}");
        for absent in ["Website", "Contacts", "Complaints", "onion-location", "Conditions", "<script>"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
        for row in [
            "<th scope=\"row\">Kept over restarts</th><td>Queues and messages</td>",
            "<th scope=\"row\">Messages are dropped after</th><td>21 days</td>",
            "<th scope=\"row\">New users</th><td>Yes</td>",
        ] {
            assert!(text.contains(row), "{row} in {text}");
        }
        let other = information(&settings(
            "[AUTH]\ncreate_password = secret1\n[STORE_LOG]\nenable = off\nexpire_messages_days = 1\nlog_stats = on",
        ));
        assert!(other.text.contains("With a password") && !other.text.contains("secret1"));
        assert!(other.text.contains("memory only") && other.text.contains("1 day<"));
        let closed = information(&settings("[AUTH]\nnew_queues = off"));
        assert!(closed.text.contains("New users</th><td>No</td>"));
    }

    #[test]
    fn only_links_that_do_no_harm_are_links() {
        for (link, is_link) in [
            ("https://example.com/\"onclick=\"x", true),
            ("http://example.com", true),
            ("javascript:alert(1)", false),
            ("data:text/html,x", false),
        ] {
            let text = information(&settings(&format!("[INFORMATION]\nwebsite = {link}"))).text;
            assert_eq!(text.contains(&format!("<a href=\"{}\"", escape(link))), is_link, "{link}");
            assert!(!text.contains("\"onclick=\""));
        }
        let contact = "[INFORMATION]\nadmin_simplex = simplex:/a#x\nadmin_email = a@example.com\nadmin_pgp = https://k.example\n\
                       admin_pgp_fingerprint = AB";
        let text = information(&settings(contact)).text;
        assert!(
            text.contains("<a href=\"simplex:/a#x\"") && text.contains("<a href=\"mailto:a@example.com\"")
        );
        assert!(text.contains("PGP fingerprint: AB"));
    }

    #[test]
    fn an_onion_host_is_told_to_browsers_that_can_use_it() {
        let text = "[TRANSPORT]\nhost = smp.example.com,abc.onion";
        assert!(information(&settings(text)).text.contains("onion-location\" content=\"http://abc.onion\""));
    }

    #[test]
    fn pages_allow_what_they_have_and_nothing_else() {
        for (kind, title, meaning) in LINK_KINDS {
            let page = link(kind, title, meaning);
            assert!(page.text.contains(&format!("<body data-kind=\"{kind}\">")));
            assert!(
                page.policy.contains(&hash_source(LINK_SCRIPT))
                    && page.policy.starts_with("default-src 'none';")
            );
            assert_eq!(page.text.matches("<script").count(), 1);
            // Nothing that a page of ours does is inline in another way, or comes from elsewhere.
            for banned in [" style=", " onclick=", "src=", "<iframe", "@import", "url("] {
                assert!(!page.text.contains(banned), "{banned}");
            }
        }
        let page = information(&settings(""));
        assert!(page.policy.contains("script-src 'none'") && page.policy.contains(&hash_source(STYLE)));
    }
}
