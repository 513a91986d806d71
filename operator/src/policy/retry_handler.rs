//! `retryHandler.mode: sidecar`: a native sidecar with the retry handler in each pod that asks for a NIC, in namespaces that ask
//! for it.

use serde_json::{Value, json};

use super::mutating::{ASKS, Failure, Policy};

/// Name of policy and binding.
pub const RETRY_HANDLER: &str = "cxi-retry-handler-sidecar";

/// Label of namespaces whose pods get a sidecar: `enabled` or `true`. It is that of the earlier operator.
pub const NAMESPACE_LABEL: &str = "slingshot.hpe.com/inject-sidecar";

/// The policy. The images are in the CXIDriver's status, where only the operator writes.
pub fn retry_handler() -> Policy {
    Policy {
        name: RETRY_HANDLER,
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
    {'name': 'cxi-retry-handler-dev', 'mountPath': '/dev'},
    {'name': 'cxi-retry-handler-statistics', 'mountPath': '/run/cxi', 'mountPropagation': 'Bidirectional'}
  ] + (variables.own ? [{'name': 'cxi-retry-handler-supervisor', 'mountPath': '/supervisor'}] : []))
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
