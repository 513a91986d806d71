#!/bin/sh
# Stand-in for cxi_rh: its command line, its signals, its exit codes, its place in the driver (properties/pct_eq, one per
# NIC) and its statistics, as plain files. $STAND_IN_NODE is the directory with the sys, dev and run of a node.
#
# Orders are files in $STAND_IN_NODE/orders, read every moment:
#   cxiN.late         do not attach while it is there
#   cxiN.unguarded    attached, do not handle signals while it is there
#   cxiN.crash        exit with the status in it, or die by the signal behind a minus
#   cxiN.deaf         do not end upon SIGTERM while it is there
# As in the vendor's main.c, signals are handled last of all: until then each ends it, with the NIC as it is.
# What happened is appended to $STAND_IN_NODE/history.

node=$STAND_IN_NODE
device='' conf=/etc/cxi_rh.conf log=''
arguments=$*
while [ $# -gt 0 ]; do
    case $1 in
        --device=*) device=${1#*=} ;;
        --conf=*) conf=${1#*=} ;;
        -d | --device) device=$2; shift ;;
        -c | --conf) conf=$2; shift ;;
        -l | --log-stdout) log=yes ;;
        --help) echo "Usage: cxi_rh -d DEVICE [-c FILE] [-l]"; exit 0 ;;
        *) echo "unrecognized option $1" >&2; exit 1 ;;
    esac
    shift
done
case $device in cxi*) ;; *) echo "Invalid device name" >&2; exit 1 ;; esac

say() { [ -z "$log" ] || echo "cxi_rh[$device]: $*"; }
note() { echo "$device $*" >>"$node/history"; }
fatal() { say "fatal: $*"; exit 1; }

note "start $$ $arguments"
[ -e "$node/dev/$device" ] || fatal "open /dev/$device: No such file or directory"
pct_eq=$node/sys/class/cxi/$device/device/properties/pct_eq
# The device that was opened, whatever takes its name later.
pct_eq=$(readlink -f "$pct_eq") || fatal "no such device"
[ ! -e "${pct_eq%/properties/pct_eq}/physfn" ] || fatal "VFs are not supported"
directory=$node/run/cxi
if [ -e "$conf" ]; then
    grep -q 'max_spt_retries = 99' "$conf" && fatal "$conf: bad value"
    configured=$(sed -n 's/^rh_stats_dir = "\(.*\)";/\1/p' "$conf")
    directory=${configured:-$directory}
fi

orders=$node/orders
pause() { sleep 0.03; }

while [ -e "$orders/$device.late" ]; do pause; done
[ "$(cat "$pct_eq")" = 0 ] || fatal "cxil_alloc_evtq failed: File exists"
echo 17 >"$pct_eq"
statistics=$directory/$device
if [ -d "$statistics" ]; then
    echo 3 >"$statistics/spt_timeouts"
    echo 4 >"$statistics/nacks"
    echo 1 >"$statistics/parked_nids"
else
    say "no directory $statistics: no statistics"
fi
while [ -e "$orders/$device.unguarded" ]; do pause; done
ending=''
trap 'ending=yes; note SIGTERM' TERM INT
trap 'say "state dump"; note SIGHUP' HUP
say "in service"

detach() { [ ! -e "$pct_eq" ] || echo 0 >"$pct_eq"; }

while :; do
    if [ -e "$orders/$device.crash" ]; then
        how=$(cat "$orders/$device.crash")
        rm "$orders/$device.crash"
        say "fatal: ordered to"
        detach
        note "crash $how"
        case $how in
            -*) kill "$how" $$ ;;
            *) exit "$how" ;;
        esac
    fi
    if [ -n "$ending" ] && [ ! -e "$orders/$device.deaf" ]; then
        rm -f "$statistics/spt_timeouts" "$statistics/nacks" "$statistics/parked_nids"
        detach
        note end
        exit 0
    fi
    pause
done
