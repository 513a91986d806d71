//! What of the operator's workload the chart's values decide.

use cxi_images::Image;
use serde_json::{Value, json};

use super::template::Template;

/// Puts expressions into the objects that values configure.
pub fn configured(object: &mut Value, template: &mut Template) {
    match object["kind"].as_str() {
        Some("Deployment") => deployment(object, template),
        Some("ServiceAccount") => {
            // Every pod of the operands gets them from its account.
            object["imagePullSecrets"] = template.optional(".Values.imagePullSecrets");
        }
        Some("NetworkPolicy") => network_policy(object, template),
        _ => {}
    }
}

fn deployment(object: &mut Value, template: &mut Template) {
    object["spec"]["replicas"] = template.scalar("{{ .Values.replicas }}");
    let pod = &mut object["spec"]["template"];
    pod["metadata"]["annotations"][extra(template, ".Values.podAnnotations")] = Value::Null;
    pod["metadata"]["labels"][extra(template, ".Values.podLabels")] = Value::Null;
    let spec = &mut pod["spec"];
    spec["nodeSelector"] = template.optional(".Values.nodeSelector");
    spec["affinity"] = template.optional(".Values.affinity");
    spec["tolerations"] = template.optional(".Values.tolerations");
    spec["priorityClassName"] = template.scalar("{{ .Values.priorityClassName | quote }}");
    let container = &mut spec["containers"][0];
    container["image"] = image(template, ".Values.image");
    container["imagePullPolicy"] = template.scalar("{{ .Values.image.pullPolicy }}");
    container[entry(template, "args", ".Values.extraArgs")] = Value::Null;
    container["resources"] = template.yaml(".Values.resources");
    for variable in container["env"].as_array_mut().into_iter().flatten() {
        for (of, value) in [(Image::DevicePlugin, ".Values.devicePlugin.image"), (Image::Agent, ".Values.agent.image")]
        {
            if variable["name"].as_str() == of.variable() {
                variable["value"] = image(template, value);
            }
        }
    }
    if let Some(variables) = container["env"].as_array_mut() {
        variables.push(extra(template, ".Values.extraEnv").into());
    }
}

fn image(template: &mut Template, value: &str) -> Value {
    template.scalar(&format!("{{{{ include \"cxi-operator.image\" (dict \"image\" {value} \"root\" .) | quote }}}}"))
}

/// More entries of a map or list.
fn extra(template: &mut Template, value: &'static str) -> String {
    template.lines(move |indent| {
        let spaces = " ".repeat(indent);
        format!("{{{{- with {value} }}}}\n{spaces}{{{{- toYaml . | nindent {indent} }}}}\n{spaces}{{{{- end }}}}")
    })
}

/// A key with its value, if the value of the chart is not empty. Unlike [`Template::optional`] it can be in an element
/// of a list, whose first key it must not be.
fn entry(template: &mut Template, key: &'static str, value: &'static str) -> String {
    template.lines(move |indent| {
        let spaces = " ".repeat(indent);
        format!(
            "{{{{- with {value} }}}}\n{spaces}{key}:\n{spaces}  {{{{- toYaml . | nindent {} }}}}\n{spaces}{{{{- end }}}}",
            indent + 2
        )
    })
}

fn network_policy(object: &mut Value, template: &mut Template) {
    if let Some(ingress) = object["spec"]["ingress"][0].as_object_mut() {
        ingress.remove("from");
        ingress.insert(entry(template, "from", ".Values.networkPolicy.metricsFrom"), Value::Null);
    }
    if object["spec"].get("egress").is_none() {
        return;
    }
    let ports = template.lines(|indent| {
        let spaces = " ".repeat(indent);
        format!(
            "{{{{- range .Values.networkPolicy.apiServerPorts }}}}\n{spaces}- port: {{{{ . }}}}\n{spaces}  protocol: TCP\n{spaces}{{{{- end }}}}"
        )
    });
    object["spec"]["egress"][0]["ports"] = json!([ports]);
}
