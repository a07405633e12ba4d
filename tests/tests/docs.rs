//! The schema and the man pages are those of the code, and the help is one
//! that a terminal can show. `UPDATE_DOCS=1` writes them again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use clap::{Arg, ArgAction, Command, ValueEnum};
use etcd::Minor;
use pipeline::{Code, Document, IN_WORDS, command};
use tests::man::pages;
use tests::repository;

/// The command lines of all tools.
fn commands() -> Vec<Command> {
    vec![
        command::<etcd_fetch::Fetch>(),
        command::<etcd_preflight::Preflight>(),
        command::<etcd_cert::Cert>(),
        command::<etcd_render::Render>(),
        command::<etcd_push::Push>(),
        command::<etcd_unit::Unit>(),
        command::<etcd_health::Health>(),
        command::<etcd_snapshot::Snapshot>(),
        command::<etcd_maintain::Maintain>(),
        command::<etcd_member::Member>(),
    ]
}

fn committed(folder: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(folder).expect("the folder").map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// `made` is what is committed in `folder`, file by file.
fn same_as_committed(folder: &Path, made: BTreeMap<String, String>) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::remove_dir_all(folder).ok();
        fs::create_dir_all(folder).unwrap();
        for (name, text) in &made {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let committed = committed(folder);
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&made));
    for (name, text) in made {
        assert!(committed[&name] == text, "{name} is not what the code says: run UPDATE_DOCS=1");
    }
}

#[test]
fn what_scripts_take_from_the_environment_are_variables() {
    let read = |path: &str| fs::read_to_string(repository().join(path)).unwrap();
    let script = read("scripts/common.bash");
    let (_, rest) = script.split_once("environment='").unwrap();
    let (names, _) = rest.split_once('\'').unwrap();
    let variables = read("docs/variables.md");
    for name in names.split_whitespace() {
        assert!(variables.contains(&format!("| `ETCD_TOOLS_{name}` |")), "{name}");
    }
}

#[test]
fn the_schema_is_that_of_the_types() {
    let schema = schemars::schema_for!(Document);
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    let made = BTreeMap::from([("document.schema.json".to_owned(), text)]);
    same_as_committed(&repository().join("docs/schema"), made);
}

#[test]
fn the_contract_has_every_code_of_results_and_no_other() {
    let mut table = String::from("| code | meaning |\n| --- | --- |\n");
    for code in Code::value_variants() {
        table += &format!("| `{code}` | {} |\n", code.meaning());
    }
    same_as_between("docs/contract.md", "codes", &table);
    let all: BTreeSet<_> = Code::value_variants().iter().map(|code| code.name()).collect();
    assert_eq!(all.len(), Code::value_variants().len());
}

#[test]
fn the_readme_has_every_setting_and_the_version_of_rust() {
    let schema = serde_json::to_value(schemars::schema_for!(Document)).unwrap();
    let settings = schema["$defs"]["Settings"]["properties"].as_object().unwrap();
    let mut table = String::from("| setting | meaning |\n| --- | --- |\n");
    for (name, setting) in settings {
        let meaning = setting["description"].as_str().expect("a description").replace('\n', " ");
        table += &format!("| `{name}` | {meaning} |\n");
    }
    same_as_between("README.md", "settings", &table);
    let cargo = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let version = cargo.split("rust-version = \"").nth(1).unwrap().split('"').next().unwrap();
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    assert!(readme.contains(&format!("Rust {version} or newer")), "README: not {version}");
}

/// `table` is what `file` has between the marks `name` and `end of name`.
fn same_as_between(file: &str, name: &str, table: &str) {
    let path = repository().join(file);
    let text = fs::read_to_string(&path).unwrap();
    let marks = [format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->")];
    let (before, rest) = text.split_once(&marks[0]).unwrap();
    let (committed, after) = rest.split_once(&marks[1]).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, [before, &marks[0], table, &marks[1], after].concat()).unwrap();
    } else {
        assert!(committed == table, "{file} is not what the code says: run UPDATE_DOCS=1");
    }
}

#[test]
fn every_check_of_a_preflight_is_described() {
    let text = fs::read_to_string(repository().join("docs/preflight.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let described: Vec<_> = rows.map(str::to_owned).collect();
    let checks: Vec<_> = etcd_preflight::CHECKS.iter().map(|code| code.name()).collect();
    assert_eq!(described, checks);
}

#[test]
fn every_promise_has_its_tests() {
    let promises = fs::read_to_string(repository().join("docs/promises.md")).unwrap();
    let mut promise = 0;
    let mut tested = BTreeSet::new();
    for line in promises.lines() {
        if let Some((number, _)) = line.split_once(". ") {
            promise = number.parse().unwrap_or(promise);
        }
        for name in line.split('`').filter(|word| word.contains("::")) {
            let (module, test) = name.split_once("::").unwrap();
            let paths = [format!("lab/{module}.rs"), format!("{module}.rs")];
            let source = paths.iter().find_map(|path| {
                fs::read_to_string(repository().join("tests/tests").join(path)).ok()
            });
            let test = format!("#[test]\nfn {test}() {{");
            assert!(source.is_some_and(|source| source.contains(&test)), "no test {name}");
            tested.insert(promise);
        }
    }
    assert_eq!(tested, (1..=20).collect());
}

#[test]
fn the_man_pages_are_those_of_the_tools() {
    let tools: Vec<_> = commands().iter().map(|tool| tool.get_name().to_owned()).collect();
    let pages = [
        pages::<etcd_fetch::Fetch>(&tools),
        pages::<etcd_preflight::Preflight>(&tools),
        pages::<etcd_cert::Cert>(&tools),
        pages::<etcd_render::Render>(&tools),
        pages::<etcd_push::Push>(&tools),
        pages::<etcd_unit::Unit>(&tools),
        pages::<etcd_health::Health>(&tools),
        pages::<etcd_snapshot::Snapshot>(&tools),
        pages::<etcd_maintain::Maintain>(&tools),
        pages::<etcd_member::Member>(&tools),
    ];
    let pages: BTreeMap<_, _> = pages.into_iter().flatten().collect();
    for (name, page) in &pages {
        for section in ["EXAMPLES", "ENVIRONMENT", "EXIT STATUS", "SEE ALSO"] {
            assert!(page.contains(section), "{name}: no {section}");
        }
    }
    same_as_committed(&repository().join("docs/man"), pages);
}

#[test]
fn the_examples_are_command_lines_that_the_tools_take() {
    let tools = commands();
    let mut count = 0;
    for_each_command(commands(), &mut |command| {
        let help = command.render_help().to_string();
        let examples = help.split_once("Examples:\n").map_or("", |(_, examples)| examples);
        let examples = examples.split("\n\n").next().unwrap_or_default();
        assert!(!examples.is_empty(), "{}: no examples", command.get_name());
        let lines = examples.replace("\\\n", " ");
        let lines = lines.lines().filter_map(|line| line.strip_prefix("    "));
        for stage in lines.flat_map(|line| line.split('|')) {
            // What is redirected is the shell's.
            let words = stage.split('<').next().unwrap().split(" > ").next().unwrap();
            let words: Vec<_> = words.split_whitespace().collect();
            let Some(tool) = tools.iter().find(|tool| words.first() == Some(&tool.get_name()))
            else {
                continue;
            };
            let parsed = tool.clone().try_get_matches_from(&words);
            assert!(parsed.is_ok(), "{stage}: {}", parsed.unwrap_err());
            count += 1;
        }
    });
    assert!(count > 50, "only {count} were tried");
}

#[test]
fn every_flag_has_its_environment_variable_but_those_that_accept_a_risk() {
    let mut count = 0;
    let mut in_words = BTreeSet::new();
    let mut meanings = BTreeMap::new();
    for_each_command_of(&mut |tool, command| {
        for arg in command.get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            if matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) {
                continue;
            }
            let flag = long.replace('-', "_").to_uppercase();
            let names = [
                format!("ETCD_TOOLS_{flag}"),
                format!("ETCD_TOOLS_{}_{flag}", tool.trim_start_matches("etcd-").to_uppercase()),
            ];
            let env = arg.get_env().map(|env| env.to_string_lossy().into_owned());
            if arg.get_help_heading() == Some(IN_WORDS) {
                assert_eq!(env, None, "{} --{long}", command.get_name());
                in_words.insert(long.to_owned());
                continue;
            }
            if long == "endpoints" {
                // A document goes before it: the man pages name it where it counts.
                assert_eq!(env, None, "{}", command.get_name());
                continue;
            }
            let risk =
                ["accept-", "allow-", "discard-", "force", "lose-", "purge", "replace-", "skip-"];
            assert!(!risk.iter().any(|risk| long.starts_with(risk)), "--{long} has a variable");
            let env = env.unwrap_or_default();
            assert!(names.contains(&env), "{} --{long}: {env}", command.get_name());
            count += 1;
            let meaning = meaning(arg);
            let known = meanings.entry(env.clone()).or_insert_with(|| meaning.clone());
            assert_eq!(*known, meaning, "{env} means another thing to {}", command.get_name());
        }
    });
    for risk in ["allow-unsafe-version", "lose-quorum", "purge", "skip"] {
        assert!(in_words.contains(risk), "--{risk} has a variable");
    }
    assert!(count > 50, "only {count} flags were looked at");
}

#[test]
fn the_help_fits_80_columns_and_tells_the_exit_codes() {
    for_each_command(commands(), &mut |command| {
        for help in [command.render_help(), command.render_long_help()] {
            let text = help.to_string();
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
        }
    });
    for mut command in commands() {
        let help = command.render_help().to_string();
        assert!(help.contains("  65  the input is not a valid document"), "{help}");
    }
}

/// What a variable of the flag may be set to; where that are no words, what it does when it
/// is not set, and without a value what it does when it is.
fn meaning(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if !arg.get_action().takes_values() {
        return help;
    }
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        return possible.iter().map(|value| value.get_name()).collect::<Vec<_>>().join(" ");
    }
    let default = help.split_once("[default").map_or("", |(_, default)| default);
    format!("{:?} {:?} {default}", arg.get_value_names(), arg.get_default_values())
}

#[test]
fn every_variable_is_listed() {
    let mut variables: BTreeMap<String, (String, BTreeSet<String>, String)> = BTreeMap::new();
    for_each_command_of(&mut |tool, command| {
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let (Some(long), Some(env)) = (arg.get_long(), arg.get_env()) else { continue };
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let name = env.to_string_lossy().into_owned();
            let row = variables.entry(name).or_insert((long.into(), BTreeSet::new(), help));
            row.1.insert(tool.to_owned());
        }
    });
    let mut table = String::from("| variable | flag | of | meaning |\n| --- | --- | --- | --- |\n");
    let all = commands().len();
    for (name, (long, tools, help)) in variables {
        let of = match tools.len() == all {
            true => "all".to_owned(),
            false => tools.into_iter().collect::<Vec<_>>().join(", "),
        };
        let help = help.replace('\n', " ").replace('|', "\\|");
        table += &format!("| `{name}` | `--{long}` | {of} | {help} |\n");
    }
    same_as_between("docs/variables.md", "variables", &table);
}

/// Calls `look` for each command of each tool, with the tool's name.
fn for_each_command_of(look: &mut impl FnMut(&str, &mut Command)) {
    for tool in commands() {
        let name = tool.get_name().to_owned();
        for_each_command(vec![tool], &mut |command| look(&name, command));
    }
}

fn for_each_command(commands: Vec<Command>, look: &mut impl FnMut(&mut Command)) {
    for mut command in commands {
        command.build();
        look(&mut command);
        let commands = command.get_subcommands().filter(|command| command.get_name() != "help");
        for_each_command(commands.cloned().collect(), look);
    }
}

#[test]
fn the_lab_and_the_demo_know_the_releases_that_the_tools_know() {
    let lab = repository().join("scripts/lab").display().to_string();
    let table = tests::run(&repository(), &lab, &["releases"]).ok().stdout;
    let versions: Vec<_> = table.lines().filter_map(|line| line.split(' ').next()).collect();
    for minor in Minor::KNOWN.into_iter().filter(|minor| minor.is_supported()) {
        let newest = minor.newest().unwrap().to_string();
        assert!(versions.contains(&newest.as_str()), "no {newest} in {versions:?}");
    }
    let demo = fs::read_to_string(repository().join("scripts/demo")).unwrap();
    let default = format!("release=${{1:-{}}}", Minor::DEFAULT);
    assert!(demo.contains(&default), "no {default:?} in scripts/demo");
}
