//! YAML with a template's expressions in it: an object is written with placeholders, which are replaced afterwards, because no
//! YAML writer leaves `{{ }}` as they are.

use serde_json::Value;

/// Lines that take the place of one, for an indentation.
type Lines = Box<dyn Fn(usize) -> String>;

/// What stands in the place of a placeholder.
enum Expression {
    /// Part of a value.
    Scalar(String),
    /// The whole line.
    Lines(Lines),
    /// The value of a key: the YAML of a value of the chart.
    Yaml(String),
    /// A key with its value, if the value of the chart is not empty.
    Optional(String),
}

/// The placeholders of one object.
#[derive(Default)]
pub struct Template(Vec<Expression>);

impl Template {
    /// A value, or a part of one.
    pub fn scalar(&mut self, expression: &str) -> Value {
        self.add(Expression::Scalar(expression.to_owned())).into()
    }

    /// Lines in the place of an entry of a map, whose key this is, or of a list, whose element this is. They are given the
    /// indentation at which they stand.
    pub fn lines(&mut self, lines: impl Fn(usize) -> String + 'static) -> String {
        self.add(Expression::Lines(Box::new(lines)))
    }

    /// The YAML of a value of the chart, such as `.Values.resources`.
    pub fn yaml(&mut self, value: &str) -> Value {
        self.add(Expression::Yaml(value.to_owned())).into()
    }

    /// The same; without a value the key is not there either.
    pub fn optional(&mut self, value: &str) -> Value {
        self.add(Expression::Optional(value.to_owned())).into()
    }

    /// The text with the expressions in their places.
    pub fn render(&self, text: &str) -> String {
        text.lines().map(|line| self.line(line) + "\n").collect()
    }

    fn add(&mut self, expression: Expression) -> String {
        self.0.push(expression);
        placeholder(self.0.len() - 1)
    }

    fn line(&self, line: &str) -> String {
        let indent = line.len() - line.trim_start().len();
        let spaces = " ".repeat(indent);
        let mut line = line.to_owned();
        for (index, expression) in self.0.iter().enumerate() {
            let placeholder = placeholder(index);
            let Some(at) = line.find(&placeholder) else { continue };
            let key = line[..at].trim().to_owned();
            match expression {
                Expression::Scalar(expression) => line = line.replace(&placeholder, expression),
                Expression::Lines(lines) => return spaces + &lines(indent),
                Expression::Yaml(value) => {
                    return format!("{spaces}{key}\n{spaces}  {{{{- toYaml {value} | nindent {} }}}}", indent + 2);
                }
                Expression::Optional(value) => {
                    return format!(
                        "{spaces}{{{{- with {value} }}}}\n{spaces}{key}\n{spaces}  {{{{- toYaml . | nindent {} }}}}\n{spaces}{{{{- end }}}}",
                        indent + 2
                    );
                }
            }
        }
        line
    }
}

/// A word that YAML writes without quotes, that is no part of another, and that as a key comes last: the first key of a list's
/// element shares its line with the dash.
fn placeholder(index: usize) -> String {
    format!("zzplaceholder{index:03}x")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::yaml;

    #[test]
    fn expressions_stand_where_values_stood() {
        let mut template = Template::default();
        let labels = template.lines(|indent| format!("{{{{- include \"l\" . | nindent {indent} }}}}"));
        let object = json!({
            "metadata": { "labels": { "a": "b", labels: null }, "namespace": template.scalar("{{ .Release.Namespace }}") },
            "spec": { "resources": template.yaml(".Values.resources"), "tolerations": template.optional(".Values.tolerations") },
            "text": format!("'in:{}:text'", template.scalar("{{ .X }}").as_str().unwrap()),
        });
        let text = template.render(&yaml::document(&object).unwrap());
        let expected = r#"metadata:
  labels:
    a: b
    {{- include "l" . | nindent 4 }}
  namespace: {{ .Release.Namespace }}
spec:
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
text: "'in:{{ .X }}:text'"
"#;
        assert_eq!(text, expected);
    }
}
