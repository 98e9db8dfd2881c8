// SPDX-License-Identifier: Apache-2.0
//! A module of the kernel that no device asks for.

use crate::list::List;
use crate::record::{Check, record};
use crate::value::Text;
use std::fmt;
use std::str::FromStr;

/// Most of them.
pub(crate) const MAX_MODULES: usize = 128;

record! {
    /// A module of the kernel that is loaded although no device asks for it. It has to be part of the image, as nothing else
    /// is loaded; what it needs comes along. Modules for devices load by themselves.
    ///
    /// When the document goes, the module goes too, if nothing uses it; otherwise with the next boot. One that was there
    /// before stays. Other parameters mean unloading and loading it again.
    pub struct KernelModule as "KernelModule" {
        /// The module, `-` and `_` being the same. One document for each.
        name: ModuleName,
        /// What it is told when it is loaded, each as `KEY=VALUE`. The module has to know the key.
        parameters: List<ModuleParameter, 0, 32>,
    }
}

impl KernelModule {
    /// The module.
    #[must_use]
    pub fn name(&self) -> &ModuleName {
        &self.name
    }

    /// What it is told when it is loaded.
    #[must_use]
    pub fn parameters(&self) -> &[ModuleParameter] {
        &self.parameters
    }
}

impl Check for KernelModule {}

/// The longest name: MODULE_NAME_LEN less its end.
const MAX_NAME: usize = 55;

/// The name of a module, with `_` in the place of `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleName(String);

/// Why a text is no name of a module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleNameError {
    /// It has no letters or too many.
    #[error("it has {0} characters and not 1 to {MAX_NAME}")]
    Length(usize),
    /// It has a character that no module has.
    #[error("{0:?} is not a letter, a digit, - or _")]
    Character(char),
}

impl ModuleName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModuleName {
    type Err = ModuleNameError;

    fn from_str(text: &str) -> Result<ModuleName, ModuleNameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if let Some(other) = text.chars().find(|c| !allowed(*c)) {
            return Err(ModuleNameError::Character(other));
        }
        match text.len() {
            1..=MAX_NAME => Ok(ModuleName(text.replace('-', "_"))),
            length => Err(ModuleNameError::Length(length)),
        }
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for ModuleName {
    const WHAT: &'static str = "the name of a kernel module";
    const EXAMPLE: &'static str = "br_netfilter";
    const PATTERN: &'static str = "^[0-9A-Za-z_-]{1,55}$";
}

/// The longest parameter.
const MAX_PARAMETER: usize = 256;

/// `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModuleParameter(String);

/// Why a text is no parameter of a module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleParameterError {
    /// It is too long.
    #[error("it has {0} characters, more than {MAX_PARAMETER}")]
    Long(usize),
    /// There is no value.
    #[error("it has no =")]
    Value,
    /// The key is empty, or has a character that no key has.
    #[error("its key is not of letters, digits, - and _")]
    Key,
    /// The value has a character that would end it.
    #[error("{0:?} has no place in its value")]
    Character(char),
}

impl ModuleParameter {
    /// Key and value, with `=` between.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key, with `_` in the place of `-`.
    #[must_use]
    pub fn key(&self) -> &str {
        self.0.split_once('=').map_or(self.0.as_str(), |(key, _)| key)
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &str {
        self.0.split_once('=').map_or("", |(_, value)| value)
    }
}

impl FromStr for ModuleParameter {
    type Err = ModuleParameterError;

    fn from_str(text: &str) -> Result<ModuleParameter, ModuleParameterError> {
        if text.len() > MAX_PARAMETER {
            return Err(ModuleParameterError::Long(text.chars().count()));
        }
        let (key, value) = text.split_once('=').ok_or(ModuleParameterError::Value)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if key.is_empty() || !key.chars().all(allowed) {
            return Err(ModuleParameterError::Key);
        }
        // The kernel splits at spaces and looks for quotes.
        if let Some(other) = value.chars().find(|c| !c.is_ascii_graphic() || *c == '"') {
            return Err(ModuleParameterError::Character(other));
        }
        Ok(ModuleParameter(format!("{}={value}", key.replace('-', "_"))))
    }
}

impl fmt::Display for ModuleParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for ModuleParameter {
    const WHAT: &'static str = "a parameter of a module";
    const EXAMPLE: &'static str = "numdummies=2";
    const PATTERN: &'static str = "^[0-9A-Za-z_-]+=[!#-~]*$";
}

#[cfg(test)]
mod tests {
    use super::{ModuleName, ModuleParameter};

    #[test]
    fn names_and_parameters() {
        assert_eq!("efi-pstore".parse::<ModuleName>().unwrap().as_str(), "efi_pstore");
        for text in ["", "a b", "../x", "x.ko", &"x".repeat(56)] {
            assert!(text.parse::<ModuleName>().is_err(), "{text}");
        }
        let parameter: ModuleParameter = "num-dummies=a=b".parse().unwrap();
        assert_eq!((parameter.key(), parameter.value()), ("num_dummies", "a=b"));
        for text in ["", "a", "=1", "a=1 b=2", "a=\"", "a b=1", "a=\0"] {
            assert!(text.parse::<ModuleParameter>().is_err(), "{text}");
        }
    }
}
