#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # deploy/gcloud.sh uses what is set here, and the other way round
# Moves new connections of a service, in steps, to the revision that deploy.sh --no-traffic created, or back.
set -euo pipefail

folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
script=traffic.sh
# shellcheck source=/dev/null # shellcheck is given it
. "$folder/deploy/gcloud.sh"

project=${GOOGLE_CLOUD_PROJECT:-}
region=us-central1
service=chat
to=
rollback=
revision=
dry_run=

usage () {
  cat <<END
Usage: traffic.sh --to PERCENT [options]
       traffic.sh --rollback [options]

Moves new connections to the revision that deploy.sh --no-traffic created (its tag is "canary"), or back. Open connections stay where they are.

  --to PERCENT         share of new connections for the canary, 1 to 100; 100 ends the canary
  --rollback           send all new connections to the previous revision (its tag is "previous")
  --revision NAME      roll back to this revision
  --project ID         Google Cloud project (default: \$GOOGLE_CLOUD_PROJECT, else the one gcloud is set to)
  --region REGION      region of the service (default: $region)
  --service NAME       name of the service (default: $service)
  --dry-run            print every command, and run none
  --help               print this
END
}

while [ $# -gt 0 ]; do
  case $1 in
    --help|-h) usage; exit ;;
    --dry-run) dry_run=yes ;;
    --rollback) rollback=yes ;;
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}"; continue ;;
    --to|--revision|--project|--region|--service)
      case ${2:-} in ''|--*) die "$1 needs a value" ;; esac
      printf -v "${1#--}" %s "$2"
      shift ;;
    *) die "unknown option $1; --help lists all options" ;;
  esac
  shift
done
if [ -n "$rollback" ]; then
  [ -z "$to" ] || die '--to and --rollback exclude each other'
else
  [ -n "$to" ] || die 'use --to PERCENT or --rollback; --help explains them'
  [ -z "$revision" ] || die '--revision is for --rollback'
  whole --to "$to" 1 100
fi
begin

# Sets newest, canary and previous (revisions), and stable: the revision with the largest share, apart from the canary.
look_at_traffic () {
  local latest name percent tag most=0
  newest='' canary='' previous='' stable=''
  look run services describe "$service" "--region=$region" '--flatten=status.traffic[]' '--format=value[separator="|"](status.latestReadyRevisionName,status.traffic.revisionName,status.traffic.percent,status.traffic.tag)' || {
    [ -n "$dry_run" ] || die "there is no service $service in $region"
    newest=CANARY canary=CANARY previous=PREVIOUS stable=PREVIOUS
    return
  }
  local lines=$answer
  while IFS='|' read -r latest name percent tag; do
    newest=$latest
    [ "$tag" != canary ] || canary=$name
    [ "$tag" != previous ] || previous=$name
  done <<< "$lines"
  while IFS='|' read -r _ name percent tag; do
    if [ "$name" != "$canary" ] && [ "${percent:-0}" -gt "$most" ]; then
      most=$percent stable=$name
    fi
  done <<< "$lines"
}

update=(run services update-traffic "$service" "--region=$region")
look_at_traffic
if [ -n "$rollback" ]; then
  if [ -n "$revision" ]; then
    update+=("--to-revisions=$revision=100")
  else
    [ -n "$previous" ] || die "no revision has the tag \"previous\". Choose one: gcloud run revisions list --service=$service --region=$region --project=$project, then: traffic.sh --rollback --revision NAME"
    update+=(--to-tags=previous=100)
  fi
else
  [ -n "$canary" ] || die 'no revision has the tag "canary"; create one: deploy.sh --no-traffic'
  # If the canary already has all connections, the tag "previous" stays as it is.
  [ -z "$stable" ] || update+=("--update-tags=previous=$stable")
  if [ "$to" -lt 100 ]; then
    update+=("--to-tags=canary=$to")
  else
    [ "$newest" = "$canary" ] || die "$newest is newer than the canary ($canary); create a canary of the version that you want: deploy.sh --no-traffic"
    # From here on the next deploy.sh reaches all clients again.
    update+=(--to-latest --remove-tags=canary)
  fi
fi
run "${update[@]}"
[ -n "$dry_run" ] || cat <<END
Done. Open connections stay where they are, for up to an hour: the plugin closes each at an age of 51 to 57 minutes, and its client connects
again. Until then both revisions have instances, addresses in the subnet, and connections to Redis.
END
