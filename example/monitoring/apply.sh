#!/usr/bin/env bash
# Brings the dashboard, the alert policies and the service level objective into a project: creates what is missing, updates what is there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
api=https://monitoring.googleapis.com/v3

usage () {
  cat <<END
usage: apply.sh --project PROJECT --service SERVICE [--notification-channel CHANNEL]... [--runbook URL] [--dry-run]

  --project               the project whose metrics these are
  --service               the Cloud Run service, which is the label "job" of its metrics
  --notification-channel  gets the alerts: projects/PROJECT/notificationChannels/ID; repeat it for more.
                          Without one a policy keeps the channels it has
  --runbook               where you publish runbook.md; the alerts link to it
  --dry-run               calls nothing: renders the files into a new folder and prints every command
END
}

stop () {
  echo "apply.sh: $1" >&2
  usage >&2
  exit 2
}

project='' service='' channels='' runbook=example/monitoring/runbook.md dry=false
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry=true; shift; continue ;;
    --help) usage; exit ;;
    --project|--service|--notification-channel|--runbook) [ $# -gt 1 ] || stop "$1 needs a value" ;;
    *) stop "unknown option $1" ;;
  esac
  case $1 in
    --project) project=$2 ;;
    --service) service=$2 ;;
    --notification-channel) channels=${channels:+$channels,}$2 ;;
    --runbook) runbook=$2 ;;
  esac
  shift 2
done
[[ $project =~ ^[a-z][a-z0-9.:-]*$ ]] || stop '--project must be the id of a project'
[[ $service =~ ^[a-z][a-z0-9-]*$ ]] || stop '--service must be the name of a Cloud Run service'
[[ $runbook != *[\|\&\\\"]* ]] || stop '--runbook must be a URL without | & \ and "'

rendered=$(mktemp -d)
if $dry; then echo "# the files: $rendered"; else trap 'rm -rf "$rendered"' EXIT; fi
mkdir "$rendered/alerts"
for file in dashboard.json service.json slo.json alerts/; do
  for path in "$here/$file"*; do
    [ -f "$path" ] && sed -e "s|\${SERVICE}|$service|g" -e "s|\${RUNBOOK}|$runbook|g" "$path" > "$rendered/${path#"$here/"}"
  done
done

# Prints a command as it could be typed, and runs it unless this is a dry run.
run () {
  printf '%q ' "$@"
  echo
  $dry || "$@"
}

# The first line of what a command prints, as `found`; of a dry run a word that stands for it, as it could be either.
look_up () {
  found=$1
  shift
  printf '%q ' "$@"
  echo
  $dry && return
  found=$("$@")
  found=${found%%$'\n'*}
}

either () {
  ! $dry || echo "# $1"
}

display_name () {
  sed -n 's/^  "displayName": "\(.*\)",$/\1/p' "$1"
}

apply_dashboard () {
  local file=$rendered/dashboard.json found name etag
  look_up DASHBOARD gcloud monitoring dashboards list --project "$project" --filter "displayName=\"$(display_name "$file")\"" --format 'value(name,etag)'
  read -r name etag <<< "$found"
  if [ -z "$name" ] || $dry; then
    either 'where it found nothing'
    run gcloud monitoring dashboards create --project "$project" --config-from-file "$file"
  fi
  [ -n "$name" ] || return 0
  either 'where it found one, whose etag goes into the file'
  # The etag says which version is meant: somebody else's change in between is an error, not lost.
  $dry || sed -i.bak "1s|{|{ \"etag\": \"$etag\",|" "$file"
  run gcloud monitoring dashboards update "$name" --project "$project" --config-from-file "$file"
}

apply_policy () {
  local file=$1 found name kept
  look_up POLICY gcloud monitoring policies list --project "$project" --filter "displayName=\"$(display_name "$file")\"" --format 'value(name,notificationChannels.list())'
  read -r name kept <<< "$found"
  if [ -z "$name" ] || $dry; then
    either 'where it found nothing'
    run gcloud monitoring policies create --project "$project" --policy-from-file "$file" ${channels:+--notification-channels "$channels"}
  fi
  [ -n "$name" ] || return 0
  either 'where it found one'
  # The file replaces the policy, its channels included: without new ones it keeps those it has.
  kept=${channels:-$kept}
  run gcloud monitoring policies update "$name" --project "$project" --policy-from-file "$file" ${kept:+--set-notification-channels "$kept"}
}

# gcloud knows no services and objectives. The token goes through stdin: arguments are for everybody to see.
call () {
  printf 'header = "Authorization: Bearer %s"\n' "$token" | curl --config - --silent --show-error --header "x-goog-user-project: $project" --header 'content-type: application/json' "$@"
}

send () {
  local answer
  echo "curl --header \"Authorization: Bearer \$(gcloud auth print-access-token)\" --header 'content-type: application/json' --request $1 '$2' --data @$3"
  $dry && return
  answer=$(call --fail-with-body --request "$1" "$2" --data "@$3") || { echo "$answer" >&2; return 1; }
}

apply_resource () {
  local collection=$1 parameter=$2 id=$3 file=$4 status=
  echo "curl --header \"Authorization: Bearer \$(gcloud auth print-access-token)\" '$collection/$id'"
  $dry || status=$(call --output /dev/null --write-out '%{http_code}' "$collection/$id")
  if [ "$status" = 404 ] || $dry; then
    either 'where that answers 404'
    send POST "$collection?$parameter=$id" "$file"
  fi
  if [ "$status" = 200 ] || $dry; then
    either 'where it answers 200'
    send PATCH "$collection/$id" "$file"
  fi
  case $status in 200|404|'') ;; *) echo "apply.sh: it answered $status" >&2; return 1 ;; esac
}

apply_dashboard
for file in "$rendered"/alerts/*.json; do apply_policy "$file"; done
$dry || token=$(gcloud auth print-access-token)
apply_resource "$api/projects/$project/services" service_id "$service-websocket" "$rendered/service.json"
apply_resource "$api/projects/$project/services/$service-websocket/serviceLevelObjectives" service_level_objective_id delivery "$rendered/slo.json"
