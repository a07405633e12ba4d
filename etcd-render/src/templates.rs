//! The templates: built in or the user's, parsed and rendered strictly.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, JsonRender, JsonTruthy, Output,
    RenderContext, RenderError, RenderErrorReason, Renderable, TemplateError, TemplateErrorReason,
};
use pipeline::{Code, Error, Run, ToolResult, disk, has_private_key};

use crate::data::Data;

/// The template of the configuration.
pub const CONFIG: &str = "etcd.conf.hbs";
/// The template of the unit.
pub const UNIT: &str = "etcd.service.hbs";

const BUILT_IN: [(&str, &str); 2] = [
    (CONFIG, include_str!("../templates/etcd.conf.hbs")),
    (UNIT, include_str!("../templates/etcd.service.hbs")),
];

/// Writes the built-in templates into `folder`; one that is there is left as it is, and is
/// an error, for it may be the user's work.
pub fn print(run: &Run, folder: &Path) -> Result<()> {
    let paths = BUILT_IN.map(|(name, text)| (folder.join(name), text));
    if let Some((path, _)) = paths.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
        bail!("{}: there already: name another folder, or move it away", path.display());
    }
    for (path, text) in paths {
        if run.check() {
            run.report(ToolResult::would_change(format!("would write {}", path.display())));
            continue;
        }
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: making it", folder.display()))?;
        disk::write(&path, text.as_bytes(), 0o644)?;
        run.report(ToolResult::changed(Code::Written, format!("wrote {}", path.display())));
    }
    Ok(())
}

/// The two templates, parsed.
pub struct Templates {
    registry: Handlebars<'static>,
    /// How errors call [`CONFIG`] and [`UNIT`]: by the path of the user's file.
    sources: [String; 2],
}

impl Templates {
    /// The built-in templates, with those of the same name in `folder` in their
    /// place. A folder with neither is an error.
    pub fn load(folder: Option<&Path>) -> Result<Self> {
        let mut registry = strict_registry();
        let mut sources = [CONFIG, UNIT].map(str::to_owned);
        let mut found = false;
        for ((name, built_in), source) in BUILT_IN.into_iter().zip(&mut sources) {
            let own = folder.map(|folder| own_template(&folder.join(name))).transpose()?.flatten();
            if let (Some(folder), Some(_)) = (folder, &own) {
                *source = folder.join(name).display().to_string();
                found = true;
            }
            registry
                .register_template_string(name, own.as_deref().unwrap_or(built_in))
                .map_err(|error| parse_error(source, &error))?;
        }
        if let Some(folder) = folder.filter(|_| !found) {
            let folder = folder.display();
            bail!(Error::usage(format!(
                "--templates {folder}: contains neither {CONFIG} nor {UNIT}"
            )));
        }
        Ok(Self { registry, sources })
    }

    /// Renders the template `name`. An error has the template's path and line.
    pub fn render(&self, name: &str, data: &Data) -> Result<String> {
        let text = self.registry.render(name, data);
        text.map_err(|error| {
            let [config, unit] = &self.sources;
            render_error(if name == CONFIG { config } else { unit }, &error)
        })
    }
}

/// The most that a template has, in bytes.
const TEMPLATE_BYTES: u64 = 1 << 20;

fn own_template(path: &Path) -> Result<Option<String>> {
    match disk::read_text(path, TEMPLATE_BYTES) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        text => {
            let text = text.with_context(|| format!("{}: reading", path.display()))?;
            if has_private_key(&text) {
                bail!(Error::bad_input(format!(
                    "{}: contains a private key, which would be in the document: leave it out",
                    path.display()
                )));
            }
            Ok(Some(text))
        }
    }
}

fn strict_registry() -> Handlebars<'static> {
    let mut registry = Handlebars::new();
    registry.set_strict_mode(true);
    registry.register_escape_fn(handlebars::no_escape);
    registry.register_helper("if", Box::new(StrictIf { holds: true }));
    registry.register_helper("unless", Box::new(StrictIf { holds: false }));
    registry.register_helper("quote", Box::new(quote));
    registry
}

/// `{{#if}}` and `{{#unless}}` that treat an unknown key as an error: those of
/// the library treat it as false, even in strict mode.
struct StrictIf {
    holds: bool,
}

impl HelperDef for StrictIf {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        render: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let condition = helper.param(0).ok_or(RenderErrorReason::ParamNotFoundForIndex("if", 0))?;
        if condition.is_value_missing() {
            return Err(RenderError::strict_error(condition.relative_path()));
        }
        let branch = match condition.value().is_truthy(false) == self.holds {
            true => helper.template(),
            false => helper.inverse(),
        };
        branch.map_or(Ok(()), |branch| branch.render(registry, context, render, out))
    }
}

/// `{{quote VALUE}}`: VALUE as it must stand in an environment file.
fn quote(
    helper: &Helper,
    _: &Handlebars,
    _: &Context,
    _: &mut RenderContext,
    out: &mut dyn Output,
) -> HelperResult {
    let value = helper.param(0).ok_or(RenderErrorReason::ParamNotFoundForIndex("quote", 0))?;
    if value.is_value_missing() {
        return Err(RenderError::strict_error(value.relative_path()));
    }
    let text = value.value().render();
    if text.chars().any(char::is_control) {
        return Err(RenderErrorReason::Other(format!("{text:?}: expected one line of text")).into());
    }
    Ok(out.write(&etcd::environment::quote(&text))?)
}

fn parse_error(source: &str, error: &TemplateError) -> anyhow::Error {
    let line = error.pos().map(|(line, _)| format!(":{line}")).unwrap_or_default();
    let what = match error.reason() {
        // The library's own text lists the rules of its grammar.
        TemplateErrorReason::InvalidSyntax(_) => {
            "not handlebars: an expression or a block is not closed before this point".into()
        }
        reason => reason.to_string(),
    };
    anyhow!("{source}{line}: parsing: {what}")
}

fn render_error(source: &str, error: &RenderError) -> anyhow::Error {
    let line = error.line_no.map(|line| format!(":{line}")).unwrap_or_default();
    let what = match error.reason() {
        RenderErrorReason::MissingVariable(Some(key)) => {
            format!("no such key: {key}: see etcd-render --help for the keys")
        }
        RenderErrorReason::ParamNotFoundForIndex(helper, at) => format!(
            "{helper}: parameter {} is missing or no such key: \
             see etcd-render --help for the keys",
            at + 1
        ),
        RenderErrorReason::HelperNotFound(name) => format!("no such helper: {name}"),
        reason => reason.to_string(),
    };
    anyhow!("{source}{line}: rendering: {what}")
}
