// SPDX-License-Identifier: Apache-2.0
//! One of a few words.

/// Declares a type whose values are words, in the order of the manual.
macro_rules! choice {
    (
        $(#[doc = $doc:literal])+
        pub enum $name:ident {
            $($(#[doc = $word_doc:literal])+ $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $word_doc])+ $variant,)+
        }

        impl $name {
            const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::value::Value for $name {
            fn shape() -> $crate::shape::Shape {
                $crate::shape::Shape::Choice { words: $name::WORDS }
            }

            fn read(node: &$crate::node::Node, report: &mut $crate::report::Report) -> Option<$name> {
                let shape = <$name as $crate::value::Value>::shape();
                let $crate::node::Tree::Text(word) = &node.tree else {
                    $crate::value::refuse_type(node, &shape, report);
                    return None;
                };
                let found = [$($name::$variant),+].into_iter().find(|one| one.as_str() == word);
                if found.is_none() {
                    let hint = $crate::record::did_you_mean(word, $name::WORDS);
                    let message = format!("there is no {} here{hint}", $crate::report::quote(word));
                    report.find(node.line, message, shape.expected());
                }
                found
            }

            fn write(&self, _: $crate::value::Secrets) -> Option<$crate::node::Tree> {
                Some($crate::node::Tree::from(self.as_str()))
            }
        }
    };
}
pub(crate) use choice;
