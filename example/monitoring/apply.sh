#!/usr/bin/env bash
# Applies the dashboard, the alert policies, the log-based metrics and the service level objectives to a project:
# creates what is missing, updates what exists. Needs gcloud and curl.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
api=https://monitoring.googleapis.com/v3
# Existing resources are found by this label and those of the service and the alert, never by a display name.
made_by=fastify-cloud-run-websocket

usage () {
  cat <<END
usage: apply.sh --project PROJECT --service SERVICE [--notification-channel CHANNEL]... [--valkey INSTANCE] [--redis INSTANCE]
                [--uptime HOST] [--runbook URL] [--region REGION] [--cluster NAME] [--dry-run]

  --project               the project whose metrics these are
  --service               the Cloud Run service, which is the label "job" of its metrics
  --notification-channel  gets the alerts: projects/PROJECT/notificationChannels/ID; repeat it for more.
                          Without one a policy keeps the channels it has
  --valkey --redis        the instance of Memorystore for Valkey, or for Redis: adds alerts on its memory and CPU
  --uptime                the host whose /health Google probes every minute: adds an alert
  --runbook               where you publish runbook.md: the alerts link to it.
                          Without it an alert contains its section of the runbook
  --region                fills in REGION in the runbook
  --cluster               the label "cluster" of the metrics (default: __run__, which is Cloud Run).
                          Other values leave out the log-based metrics and the objective on availability
  --dry-run               renders the files into a new folder, prints every command, and runs none
END
}

stop () {
  echo "apply.sh: $1" >&2
  usage >&2
  exit 2
}

give_up () {
  echo "apply.sh: $1" >&2
  exit 1
}

project='' service='' channels='' valkey='' redis='' uptime='' runbook='' region=REGION cluster=__run__ dry=false
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry=true; shift; continue ;;
    --help) usage; exit ;;
    --project|--service|--notification-channel|--valkey|--redis|--uptime|--runbook|--region|--cluster) [ $# -gt 1 ] || stop "$1 needs a value" ;;
    *) stop "unknown option $1" ;;
  esac
  case $1 in
    --project) project=$2 ;;
    --service) service=$2 ;;
    --notification-channel) channels=${channels:+$channels,}$2 ;;
    --valkey) valkey=$2 ;;
    --redis) redis=$2 ;;
    --uptime) uptime=$2 ;;
    --runbook) runbook=$2 ;;
    --region) region=$2 ;;
    --cluster) cluster=$2 ;;
  esac
  shift 2
done
name_form='^[a-z][a-z0-9-]*$'
[[ $project =~ ^[a-z][a-z0-9.:-]*$ ]] || stop '--project must be the id of a project'
[[ $service =~ $name_form ]] || stop '--service must be the name of a Cloud Run service'
[[ -z $valkey || $valkey =~ $name_form ]] || stop '--valkey must be the name of an instance'
[[ -z $redis || $redis =~ $name_form ]] || stop '--redis must be the name of an instance'
[[ -z $uptime || $uptime =~ ^[a-z0-9.-]+$ ]] || stop '--uptime must be a host, such as chat.example.com'
[[ $region =~ ^[A-Za-z0-9-]+$ ]] || stop '--region must be a region'
[[ $cluster =~ ^[A-Za-z0-9_-]+$ ]] || stop '--cluster must be the name of a cluster'
# On another cluster than Cloud Run's the name may be taken: what is made for it has the cluster in its labels and ids.
# No name of a service has an underscore.
label=$service title=$service id=$service-websocket
if [ "$cluster" != __run__ ]; then
  lower=$(tr '[:upper:]' '[:lower:]' <<< "$cluster")
  label=${service}_$lower title="$service ($cluster)" id=$id-${lower//_/-}
  [ ${#label} -le 63 ] || stop '--service and --cluster may have 62 characters together'
fi
[[ -z $runbook || ( $runbook =~ ^https?:// && $runbook != *[\|\&\\\"\ ]* ) ]] || stop '--runbook must be a URL, without | & \ and "'

# Check requirements before creating anything.
if ! $dry; then
  command -v gcloud > /dev/null || give_up 'gcloud is not on the PATH'
  command -v curl > /dev/null || give_up 'curl is not on the PATH'
  gcloud monitoring policies --help > /dev/null 2>&1 || give_up 'this gcloud has no "gcloud monitoring policies". Update it: gcloud components update'
fi

rendered=$(mktemp -d)
if $dry; then echo "# the files: $rendered"; else trap 'rm -rf "$rendered"' EXIT; fi

# The section of the runbook with this anchor, as the inside of a JSON string. Its links to other sections lead nowhere in an alert.
section () {
  awk -v wanted="$1" '
    /^## / { title = substr($0, 4); anchor = tolower(title); gsub(/\./, "", anchor); gsub(/ /, "-", anchor); inside = anchor == wanted; next }
    inside { print }' "$here/runbook.md" |
    sed -E -e 's/\[([^]]+)\]\(#[^)]*\)/\1/g' -e "s/(^|[^A-Z_])SERVICE/\1$service/g" -e "s/(^|[^A-Z_])REGION/\1$region/g" -e "s/(^|[^A-Z_])REDIS([^A-Z_]|$)/\1${valkey:-${redis:-REDIS}}\2/g" \
      -e 's/\\/\\\\/g' -e 's/"/\\"/g' |
    awk 'NR > 1 || $0 != "" { printf "%s\\n", $0 }'
}

render () {
  local target=$rendered/$1 anchor text
  mkdir -p "$(dirname "$target")"
  sed -e "s|\(\"service\": \"\)\${SERVICE}|\1$label|" -e "s|\(\"displayName\": \"\)\${SERVICE}|\1$title|" -e "s|\(\"subject\": \"\)\${SERVICE}|\1$title|" \
    -e "s|\${SERVICE}|$service|g" -e "s|\${CLUSTER}|$cluster|g" -e "s|\${VALKEY}|$valkey|g" -e "s|\${REDIS}|$redis|g" -e "s|\${HOST}|$uptime|g" "$here/$1" > "$target"
  # shellcheck disable=SC2016 # the file has this text
  anchor=$(sed -n 's/.*(${RUNBOOK}#\([^)]*\)).*/\1/p' "$target")
  [ -n "$anchor" ] || return 0
  if [ -n "$runbook" ]; then
    sed -i.bak "s|\${RUNBOOK}|$runbook|g" "$target"
    rm "$target.bak"
    return
  fi
  text=$(section "$anchor")
  TEXT=$text awk '
    BEGIN { start = "What to look at and what to do: [runbook](${RUNBOOK}#" }
    (at = index($0, start)) { rest = substr($0, at + length(start)); $0 = substr($0, 1, at - 1) ENVIRON["TEXT"] substr(rest, index(rest, ")") + 1) }
    { print }' "$target" > "$target.new"
  mv "$target.new" "$target"
}

# Prints a command as it could be typed, and runs it unless this is a dry run.
run () {
  printf '%q ' "$@"
  echo
  $dry || "$@"
}

# Sets `found` to the output of a command, or to nothing in a dry run.
look_up () {
  printf '%q ' "$@"
  echo
  found=''
  $dry || found=$("$@")
}

either () {
  ! $dry || echo "# $1"
}

# The line of `found` whose columns from the second on are these, without them.
line_of () {
  local columns
  columns=$(printf '\t%s' "$@")
  awk -F '\t' -v columns="$columns" -v count=$# '
    { own = ""; for (i = 2; i <= count + 1; i++) own = own "\t" $i; if (own == columns) { line = $1; for (i = count + 2; i <= NF; i++) line = line "\t" $i; print line } }' <<< "$found"
}

apply_dashboard () {
  local file=$rendered/dashboard.json line name etag
  look_up gcloud monitoring dashboards list --project "$project" --format 'value(name,labels.service,labels.made-by,etag)'
  line=$(line_of "$label" "$made_by")
  [ "$(wc -l <<< "$line")" -eq 1 ] || give_up "there are several dashboards with the labels service=$label and made-by=$made_by: delete all but one"
  IFS=$'\t' read -r name etag <<< "$line"
  if $dry; then name=DASHBOARD; fi
  if [ -z "$name" ] || $dry; then
    either 'where none has the labels of this one'
    run gcloud monitoring dashboards create --project "$project" --config-from-file "$file"
  fi
  [ -n "$name" ] || return 0
  either 'where one has, whose etag goes into the file'
  # With the etag, a change that somebody else made in between is an error, and is not lost.
  $dry || sed -i.bak "1s|{|{ \"etag\": \"$etag\",|" "$file"
  run gcloud monitoring dashboards update "$name" --project "$project" --config-from-file "$file"
}

silent=0
apply_policy () {
  local file=$1 alert line name kept
  alert=$(basename "$file" .json)
  line=$(line_of "$label" "$made_by" "$alert")
  [ "$(wc -l <<< "$line")" -eq 1 ] || give_up "there are several policies with the labels service=$label, made-by=$made_by and alert=$alert: delete all but one"
  IFS=$'\t' read -r name kept <<< "$line"
  if $dry; then name=POLICY; fi
  if [ -z "$name" ] || $dry; then
    either 'where none has the labels of this one'
    run gcloud monitoring policies create --project "$project" --policy-from-file "$file" ${channels:+--notification-channels "$channels"}
  fi
  # The file replaces the policy, including its channels. Without new channels, keep the existing ones.
  kept=${channels:-$kept}
  [ -n "$kept" ] || silent=$((silent + 1))
  [ -n "$name" ] || return 0
  either 'where one has'
  run gcloud monitoring policies update "$name" --project "$project" --policy-from-file "$file" ${kept:+--set-notification-channels "$kept"}
}

# Log metrics are shared by all services of a project: their filters name no service.
apply_log_metric () {
  local file=$1 name
  name=$(basename "$file" .json)
  if ! grep -qFx "$name" <<< "$found"; then
    either 'where it is missing'
    run gcloud logging metrics create "$name" --project "$project" --config-from-file "$file"
  fi
  if grep -qFx "$name" <<< "$found" || $dry; then
    either 'where it is there'
    run gcloud logging metrics update "$name" --project "$project" --config-from-file "$file"
  fi
}

apply_uptime () {
  look_up gcloud monitoring uptime list-configs --project "$project" --format 'value(name,userLabels.service,userLabels.made-by,monitoredResource.labels.host)'
  [ -z "$(line_of "$service" "$made_by" "$uptime")" ] || return 0
  either 'where none has the labels of this one'
  run gcloud monitoring uptime create "$service: /health" --project "$project" --resource-type uptime-url --resource-labels "host=$uptime,project_id=$project" --protocol https --path /health --period 1 --user-labels "service=$service,made-by=$made_by"
}

# gcloud has no commands for services and objectives. The token goes through stdin, because anyone can see arguments.
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
  $dry || status=$(call --output "$rendered/answer" --write-out '%{http_code}' "$collection/$id")
  if [ "$status" = 404 ] || $dry; then
    either 'where that answers 404'
    send POST "$collection?$parameter=$id" "$file"
  fi
  if [ "$status" = 200 ] || $dry; then
    either 'where it answers 200'
    send PATCH "$collection/$id" "$file"
  fi
  case $status in 200|404|'') ;; *) give_up "the Monitoring API answered $status for $collection/$id: $(cat "$rendered/answer")" ;; esac
}

for path in "$here"/dashboard.json "$here"/service.json "$here"/slo-*.json "$here"/alerts/*.json "$here"/log-metrics/*.json; do render "${path#"$here/"}"; done
[ -z "$valkey" ] || render optional/memorystore-valkey.json
[ -z "$redis" ] || render optional/memorystore-redis.json
[ -z "$uptime" ] || render optional/uptime.json
[ "$cluster" = __run__ ] || rm -r "$rendered/log-metrics" "$rendered/slo-availability.json"

# Resources that others refer to come first.
if [ -d "$rendered/log-metrics" ]; then
  look_up gcloud logging metrics list --project "$project" --format 'value(name)'
  for file in "$rendered"/log-metrics/*.json; do apply_log_metric "$file"; done
fi
[ -z "$uptime" ] || apply_uptime
apply_dashboard
look_up gcloud monitoring policies list --project "$project" --format 'value(name,userLabels.service,userLabels.made-by,userLabels.alert,notificationChannels.list())'
for file in "$rendered"/alerts/*.json "$rendered"/optional/*.json; do [ ! -f "$file" ] || apply_policy "$file"; done
$dry || token=$(gcloud auth print-access-token)
services=$api/projects/$project/services
apply_resource "$services" service_id "$id" "$rendered/service.json"
for file in "$rendered"/slo-*.json; do
  objective=${file##*/slo-}
  apply_resource "$services/$id/serviceLevelObjectives" service_level_objective_id "${objective%.json}" "$file"
done

[ "$silent" -eq 0 ] || $dry || echo "apply.sh: $silent alerts notify nobody. Add a notification channel: --notification-channel projects/$project/notificationChannels/ID (gcloud beta monitoring channels list --project $project)" >&2
[ -n "$valkey$redis" ] || echo 'apply.sh: nothing watches the memory of Redis. For Memorystore, add --valkey INSTANCE or --redis INSTANCE' >&2
