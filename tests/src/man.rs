//! The man pages: what clap says of each command, and the sections that a page of section 1
//! has besides.

use std::collections::BTreeMap;

use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use pipeline::{EXIT_CODES, Tool, command};

/// A flag, by its name in the code; a variable or file that a command with it reads or
/// writes; and what that is.
type Fact = (&'static str, &'static str, &'static str);

const VARIABLES: [Fact; 9] = [
    (
        "endpoints",
        "ETCD_TOOLS_ENDPOINTS, ETCDCTL_ENDPOINTS",
        "The endpoints, without --endpoints and a document.",
    ),
    ("cacert", "ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY", CERTIFICATES),
    ("cacert", "ETCDCTL_USER, ETCDCTL_PASSWORD", "Who asks, where authentication is on."),
    ("cacert", "ETCDCTL_DIAL_TIMEOUT", "How long a connection may take, e.g. 2s."),
    ("cacert", "ETCDCTL_COMMAND_TIMEOUT", "How long an answer may take, e.g. 5s."),
    ("ssh_config", "SSH_AUTH_SOCK", "The agent that holds the keys for ssh, as for ssh(1)."),
    ("ssh_config", "XDG_RUNTIME_DIR", "Where the sockets of ssh connections are, while it runs."),
    ("cache", "XDG_CACHE_HOME", "Where the folder etcd-tools for releases is."),
    ("check", "LC_ALL, LC_CTYPE, LANG", "Whether the terminal takes UTF-8."),
];
const CERTIFICATES: &str = "The certificates, where neither flags nor the document name any.";

const FILES: [Fact; 9] = [
    (
        "pki",
        "pki/ca.crt, pki/ca.key",
        "The CA. Keep the key: without it no certificate is renewed.",
    ),
    ("pki", "pki/client.crt, pki/client.key", "The operator's client certificate."),
    ("ca_cert", "pki/nodes/NAME/", "The certificates of a node, and their keys."),
    ("cache", "~/.cache/etcd-tools/VERSION/", "The archives of a release, and their SHA256SUMS."),
    ("ssh_config", "~/.ssh/config, ~/.ssh/known_hosts", "As for ssh(1)."),
    ("ssh_config", "/run/etcd-tools.lock", "On each node, who is at work there."),
    ("replace_ca", "/usr/local/lib/etcd-tools/VERSION-HASH/", "On each node, its releases."),
    ("replace_ca", ".etcd-tools", "In a folder of a node, what is about to be put in place there."),
    ("unit_file", "/etc/systemd/system/NAME.service", "On each node, the units."),
];

/// The pages of the tool `T` and of its subcommands: the text of each by its file's name.
/// `tools` are the names of all tools.
pub fn pages<T: Tool>(tools: &[String]) -> BTreeMap<String, String> {
    let mut root = command::<T>().disable_help_subcommand(true);
    root.build();
    let mut all = Vec::new();
    collect(&root, &mut all);
    let titles: Vec<_> = all.iter().map(title).collect();
    let page = |command: &Command| {
        let own = title(command);
        let others = titles.iter().chain(tools).filter(|name| **name != own);
        let mut others: Vec<_> = others.cloned().collect();
        others.sort();
        others.dedup();
        (format!("{own}.1"), page::<T>(command, &others))
    };
    all.iter().map(page).collect()
}

fn collect(command: &Command, all: &mut Vec<Command>) {
    all.push(command.clone());
    for command in command.get_subcommands() {
        collect(command, all);
    }
}

fn title(command: &Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

fn page<T: Tool>(command: &Command, others: &[String]) -> String {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    let written = man
        .render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| man.render_options_section(&mut page))
        .and_then(|()| match command.has_subcommands() {
            true => man.render_subcommands_section(&mut page),
            false => Ok(()),
        });
    written.expect("writing to memory");
    let mut roff = Roff::new();
    section(&mut roff, "EXIT STATUS");
    literally(&mut roff, EXIT_CODES);
    let shown = |arg: &&Arg| !arg.is_hide_set();
    let arguments: Vec<_> = command.get_arguments().filter(shown).collect();
    let has = |flag: &str| arguments.iter().any(|arg| arg.get_id() == flag);
    section(&mut roff, "ENVIRONMENT");
    for arg in &arguments {
        if let (Some(name), Some(long)) = (arg.get_env(), arg.get_long()) {
            let same = format!("The same as --{long}.");
            entry(&mut roff, &name.to_string_lossy(), &same);
        }
    }
    for (flag, name, what) in VARIABLES {
        if has(flag) {
            entry(&mut roff, name, what);
        }
    }
    let files: Vec<_> = FILES.into_iter().filter(|(flag, ..)| has(flag)).collect();
    if !files.is_empty() {
        section(&mut roff, "FILES");
    }
    for (_, name, what) in files {
        entry(&mut roff, name, what);
    }
    section(&mut roff, "EXAMPLES");
    for (what, line) in T::examples(command.get_name()) {
        roff.control("PP", []);
        roff.text([roman(*what)]);
        literally(&mut roff, &format!("    {}", line.replace('\n', "\n    ")));
    }
    section(&mut roff, "SEE ALSO");
    let mut names: Vec<Inline> = Vec::new();
    for name in others {
        names.extend([bold(name), roman("(1), ")]);
    }
    names.extend([bold("etcdctl"), roman("(1), "), bold("ssh"), roman("(1), "), bold("systemctl")]);
    names.push(roman("(1)"));
    roff.text(names);
    String::from_utf8(page).expect("UTF-8") + &roff.to_roff()
}

fn section(roff: &mut Roff, name: &str) {
    roff.control("SH", [name]);
}

fn entry(roff: &mut Roff, name: &str, what: &str) {
    roff.control("TP", []);
    roff.text([bold(name)]);
    roff.text([roman(what)]);
}

/// Line by line, as it stands.
fn literally(roff: &mut Roff, text: &str) {
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}
