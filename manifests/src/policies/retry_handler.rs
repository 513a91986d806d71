//! `retryHandler.mode: sidecar`: a native sidecar with the retry handler in each pod that asks for a NIC, in namespaces that ask
//! for it.

use cxi_api::names::{MANAGED_BY_LABEL, OPERATOR, SIDECAR_POLICY, SIDECAR_VOLUMES_POLICY};
use k8s_openapi::{
    api::admissionregistration::v1::{
        MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
        ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec,
        Validation,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::{Value, json};

use super::mutating::{ASKS, Failure, Policy};

/// Label of namespaces whose pods get a sidecar: `enabled` or `true`. It is that of the earlier operator.
pub const NAMESPACE_LABEL: &str = "slingshot.hpe.com/inject-sidecar";

/// The policy. The images are in the CXIDriver's status, where only the operator writes.
pub fn retry_handler() -> Policy {
    Policy {
        name: SIDECAR_POLICY,
        namespaces: Some(namespaces),
        // It sees pods of namespaces only that ask for it, and one without its retry handler hangs at the first lost packet.
        failure: Failure::Refuse,
        conditions: &[
            ("sidecar-is-wanted", "params.spec.retryHandler.enabled && params.spec.retryHandler.mode == 'sidecar'"),
            ("images-are-known", "has(params.status) && has(params.status.sidecar)"),
            ("asks-for-a-nic", ASKS),
        ],
        variables: &[
            // Another CXIDriver, or the pod's author, may have been first.
            (
                "present",
                "object.spec.?initContainers.orValue([]).exists(c, c.name == 'cxi-retry-handler') || \
                 object.spec.containers.exists(c, c.name == 'cxi-retry-handler')",
            ),
            // cxi_rh in an image of its own is supervised by the agent's program, which is copied there first.
            ("own", "has(params.status.sidecar.retryHandler)"),
            ("program", "variables.own ? '/supervisor/cxi-agent' : 'cxi-agent'"),
            ("sidecar", SIDECAR),
            ("install", INSTALL),
            ("containers", "variables.own ? [variables.install, variables.sidecar] : [variables.sidecar]"),
            ("volumes", VOLUMES),
        ],
        mutation: ("JSONPatch", "jsonPatch", PATCH),
    }
}

fn namespaces() -> Value {
    json!({ "matchExpressions": [{ "key": NAMESPACE_LABEL, "operator": "In", "values": ["enabled", "true"] }] })
}

/// Privileged for the reasons of the DaemonSet's container (`render/retry_handler.rs`). The pod's other containers start when the
/// start-up probe has passed: before its retry handler is attached libfabric refuses a NIC. The probe never gives up, for what
/// follows then is the end of the container, which is not to be. There is no liveness probe for the same reason. Types of the API are known in mutations
/// only; here they are maps, whose values are of one type unless each says `dyn`.
const SIDECAR: &str = "{
  'name': dyn('cxi-retry-handler'),
  'image': dyn(variables.own ? params.status.sidecar.retryHandler : params.status.sidecar.agent),
  'imagePullPolicy': dyn('IfNotPresent'),
  'restartPolicy': dyn('Always'),
  'command': dyn([variables.program]),
  'args': dyn(['retry-handler']),
  'startupProbe': dyn({
    'exec': dyn({'command': [variables.program, 'retry-handler', 'ready']}),
    'periodSeconds': dyn(1), 'timeoutSeconds': dyn(5), 'failureThreshold': dyn(2147483647)
  }),
  'readinessProbe': dyn({
    'exec': dyn({'command': [variables.program, 'retry-handler', 'ready']}),
    'periodSeconds': dyn(5), 'timeoutSeconds': dyn(5)
  }),
  'securityContext': dyn({
    'privileged': dyn(true), 'readOnlyRootFilesystem': dyn(true), 'runAsNonRoot': dyn(false), 'runAsUser': dyn(0)
  }),
  'volumeMounts': dyn([
    {'name': dyn('cxi-retry-handler-dev'), 'mountPath': dyn('/dev')},
    {
      'name': dyn('cxi-retry-handler-statistics'),
      'mountPath': dyn('/run/cxi'),
      'mountPropagation': dyn('Bidirectional')
    }
  ] + (variables.own
    ? [{'name': dyn('cxi-retry-handler-supervisor'), 'mountPath': dyn('/supervisor'), 'readOnly': dyn(true)}]
    : []))
}";

const INSTALL: &str = "{
  'name': dyn('cxi-retry-handler-supervisor'),
  'image': dyn(params.status.sidecar.agent),
  'imagePullPolicy': dyn('IfNotPresent'),
  'command': dyn(['cxi-agent']),
  'args': dyn(['install', '/supervisor/cxi-agent']),
  'securityContext': dyn({
    'allowPrivilegeEscalation': dyn(false),
    'capabilities': dyn({'drop': ['ALL']}),
    'readOnlyRootFilesystem': dyn(true),
    'runAsNonRoot': dyn(false),
    'runAsUser': dyn(0)
  }),
  'volumeMounts': dyn([{'name': 'cxi-retry-handler-supervisor', 'mountPath': '/supervisor'}])
}";

const VOLUMES: &str = "[
  {'name': dyn('cxi-retry-handler-dev'), 'hostPath': dyn({'path': '/dev'})},
  {
    'name': dyn('cxi-retry-handler-statistics'),
    'hostPath': dyn({'path': '/run/cxi', 'type': 'DirectoryOrCreate'})
  }
] + (variables.own ? [{'name': dyn('cxi-retry-handler-supervisor'), 'emptyDir': dyn({})}] : [])";

/// The sidecar comes first: init containers of the pod may use a NIC too.
const PATCH: &str = "variables.present ? [] :
  (has(object.spec.initContainers)
    ? (variables.own
        ? [JSONPatch{op: 'add', path: '/spec/initContainers/0', value: variables.sidecar},
           JSONPatch{op: 'add', path: '/spec/initContainers/0', value: variables.install}]
        : [JSONPatch{op: 'add', path: '/spec/initContainers/0', value: variables.sidecar}])
    : [JSONPatch{op: 'add', path: '/spec/initContainers', value: variables.containers}])
  + (has(params.spec.retryHandler.sidecar) && has(params.spec.retryHandler.sidecar.resources)
    ? [JSONPatch{
        op: 'add',
        path: '/spec/initContainers/' + (variables.own ? '1' : '0') + '/resources',
        value: params.spec.retryHandler.sidecar.resources
      }]
    : [])
  + (has(object.spec.volumes)
    ? variables.volumes.map(v, JSONPatch{op: 'add', path: '/spec/volumes/-', value: v})
    : [JSONPatch{op: 'add', path: '/spec/volumes', value: variables.volumes}])";

/// Of the pod's own containers none may mount a volume that was added for the sidecar: one is the host's /dev, another has the program
/// that the privileged sidecar runs.
const CONTAINERS: &str = "object.spec.containers.all(c, c.name == 'cxi-retry-handler' || \
    c.?volumeMounts.orValue([]).all(m, !m.name.startsWith('cxi-retry-handler-')))";

/// The same of its init containers, but for the one that brings the program.
const INIT_CONTAINERS: &str = "object.spec.?initContainers.orValue([]).all(c, c.name == 'cxi-retry-handler' || \
    c.?volumeMounts.orValue([]).all(m, !m.name.startsWith('cxi-retry-handler-') || \
    (c.name == 'cxi-retry-handler-supervisor' && m.name == 'cxi-retry-handler-supervisor')))";

/// Nor may one that is added to a running pod.
const EPHEMERAL_CONTAINERS: &str = "object.spec.?ephemeralContainers.orValue([]).all(c, \
    c.?volumeMounts.orValue([]).all(m, !m.name.startsWith('cxi-retry-handler-')))";

/// The policy that refuses pods with a sidecar whose own containers mount its volumes. It is asked after the sidecar was added, in every
/// namespace: one may have lost its label since.
pub fn sidecar_volumes() -> ValidatingAdmissionPolicy {
    let rule = |operation: &str, resource: &str| NamedRuleWithOperations {
        api_groups: Some(vec![String::new()]),
        api_versions: Some(vec!["v1".to_owned()]),
        operations: Some(vec![operation.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        ..NamedRuleWithOperations::default()
    };
    let validation = |expression: &str| Validation {
        expression: expression.to_owned(),
        message: Some(
            "volumes named cxi-retry-handler-… are for the retry handler's sidecar: no other container may mount them"
                .to_owned(),
        ),
        reason: Some("Forbidden".to_owned()),
        message_expression: None,
    };
    let spec = ValidatingAdmissionPolicySpec {
        failure_policy: Some("Fail".to_owned()),
        match_conditions: Some(vec![MatchCondition {
            name: "has-a-sidecar".to_owned(),
            expression: "object.spec.?initContainers.orValue([]).exists(c, c.name == 'cxi-retry-handler')".to_owned(),
        }]),
        match_constraints: Some(MatchResources {
            resource_rules: Some(vec![rule("CREATE", "pods"), rule("UPDATE", "pods/ephemeralcontainers")]),
            ..MatchResources::default()
        }),
        validations: Some([CONTAINERS, INIT_CONTAINERS, EPHEMERAL_CONTAINERS].map(validation).to_vec()),
        ..ValidatingAdmissionPolicySpec::default()
    };
    ValidatingAdmissionPolicy { metadata: metadata(), spec: Some(spec), status: None }
}

/// The binding that puts it into force.
pub fn sidecar_volumes_binding() -> ValidatingAdmissionPolicyBinding {
    let spec = ValidatingAdmissionPolicyBindingSpec {
        policy_name: Some(SIDECAR_VOLUMES_POLICY.to_owned()),
        validation_actions: Some(vec!["Deny".to_owned()]),
        ..ValidatingAdmissionPolicyBindingSpec::default()
    };
    ValidatingAdmissionPolicyBinding { metadata: metadata(), spec: Some(spec) }
}

fn metadata() -> ObjectMeta {
    let labels = [(MANAGED_BY_LABEL, OPERATOR), ("app.kubernetes.io/part-of", OPERATOR)];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    ObjectMeta { name: Some(SIDECAR_VOLUMES_POLICY.to_owned()), labels: Some(labels.into()), ..ObjectMeta::default() }
}
