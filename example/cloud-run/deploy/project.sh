# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # the options are set in options.sh, and other parts use what is set here
# Requirements: a recent gcloud, a project with billing, APIs, a subnet.

# Flags of older versions were never checked.
OLDEST_GCLOUD=528

check_gcloud () {
  local version
  version=$(ask version '--format=value("Google Cloud SDK")')
  case ${version%%.*} in
    ''|*[!0-9]*) ;;
    *) [ "${version%%.*}" -ge "$OLDEST_GCLOUD" ] || die "gcloud $version is too old; this needs $OLDEST_GCLOUD or newer: gcloud components update" ;;
  esac
  deploy_help=$(ask run deploy --help)
  knows --readiness-probe || say 'this gcloud knows no --readiness-probe, so full and draining instances also get new connections. To change that: gcloud components update'
  knows --scaling-concurrency-target || say 'this gcloud knows no --scaling-concurrency-target (587 does), so instances are filled to 60% instead of 90%: you need, and pay for, 50% more instances. To change that: gcloud components update'
}

# Whether `gcloud run deploy` has a flag. A dry run assumes the newest gcloud.
knows () {
  case $dry_run$deploy_help in yes*|*"$1"[!a-z-]*) return 0 ;; esac
  return 1
}

check_project () {
  local billing
  look projects describe "$project" || [ -n "$dry_run" ] || die "there is no project $project, or no access to it"
  if billing=$(ask billing projects describe "$project" '--format=value[separator=" "](billingEnabled,billingAccountName.basename())'); then
    case $billing in
      False*) die "the project $project has no billing: gcloud billing projects link $project --billing-account=ID" ;;
    esac
    billing_account=${billing#* }
  else
    billing_account=
    say "cannot see whether $project has billing. Without billing, the next steps will fail"
  fi
}

enable_apis () {
  local enabled api missing=() wanted='artifactregistry cloudbuild cloudresourcemanager compute iam monitoring run secretmanager serviceusage telemetry'
  case $redis in
    valkey) wanted="$wanted memorystore networkconnectivity serviceconsumermanagement" ;;
    redis) wanted="$wanted redis" ;;
  esac
  [ -z "$budget" ] || wanted="$wanted billingbudgets"
  case " $roles " in *' roles/logging.'*) wanted="$wanted logging" ;; esac
  enabled=$(ask services list --enabled '--format=value(config.name)')
  for api in $wanted; do
    has_line "$enabled" "$api.googleapis.com" || missing+=("$api.googleapis.com")
  done
  [ "${#missing[@]}" -eq 0 ] || run services enable "${missing[@]}"
}

# An instance takes two addresses, and for up to an hour after a deployment there are two instances where there was one. Google keeps four
# of each subnet, and Valkey takes up to four.
check_subnet () {
  local of range prefix=26 addresses=$((max_instances * 4 + 8))
  while [ $((1 << (32 - prefix))) -lt "$addresses" ]; do prefix=$((prefix - 1)); done
  local create="gcloud compute networks subnets create $service-run --network=$network --region=$region --range=10.8.0.0/$prefix --project=$project"
  if ! look compute networks subnets describe "$subnet" "--region=$region" '--format=value[separator=" "](network.basename(),ipCidrRange)'; then
    [ -n "$dry_run" ] || die "there is no subnet $subnet in $region; use --network and --subnet, or create one with a free range: $create"
    return 0
  fi
  read -r of range <<< "$answer"
  [ "$of" = "$network" ] || die "the subnet $subnet belongs to the network $of, not to $network; use --network and --subnet"
  [ "${range##*/}" -le "$prefix" ] || die "the subnet $subnet ($range) is too small for --max-instances $max_instances, which needs /$prefix. Create one with a free range, and use --subnet $service-run: $create"
}

check_budget () {
  local budgets line
  has_budget=
  [ -n "$budget" ] || return 0
  [ -z "$dry_run" ] || { billing_account=BILLING_ACCOUNT; return 0; }
  [ -n "$billing_account" ] || die "--budget needs permission to see the billing account of $project"
  budgets=$(ask billing budgets list "--billing-account=$billing_account" '--format=value[separator="|"](displayName,amount.specifiedAmount.units,name.basename())')
  while IFS= read -r line; do
    case $line in "$service in $project|"*) has_budget=${line#*|} ;; esac
  done <<< "$budgets"
  [ -z "$has_budget" ] || [ "${has_budget%|*}" = "$budget" ] ||
    die "--budget $budget has no effect: there is already a budget of ${has_budget%|*}. Change it: gcloud billing budgets update ${has_budget#*|} --billing-account=$billing_account --budget-amount=$budget"
}

create_budget () {
  [ -n "$budget" ] && [ -z "$has_budget" ] || return 0
  run billing budgets create "--billing-account=$billing_account" "--display-name=$service in $project" "--budget-amount=$budget" \
    "--filter-projects=projects/$project" --threshold-rule=percent=0.5 --threshold-rule=percent=0.9 --threshold-rule=percent=1.0
}
