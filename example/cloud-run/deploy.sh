#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154 # its parts use what is set here, and the other way round
# Deploys this folder to Cloud Run, with a Redis that connects its instances. It keeps what exists: run it again to deploy a change.
set -euo pipefail

folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
script=deploy.sh
for part in gcloud options project package access redis service; do
  # shellcheck source=/dev/null # shellcheck is given each of them
  . "$folder/deploy/$part.sh"
done

parse_options "$@"
check_options
begin
instance=$service-$redis
# A Redis belongs to a region, and so do its certificates and its password. The secret of the tokens is the same in all regions.
ca_secret=$service-redis-ca-$region
password_secret=$service-redis-password-$region
token_secret=$service-token-secret
service_account=$service-run@$project.iam.gserviceaccount.com
build_account=$service-build@$project.iam.gserviceaccount.com

# Check everything before creating anything. Turning on an API creates nothing and costs nothing.
check_gcloud
check_package
check_project
enable_apis
check_service
check_subnet
check_redis
check_budget

# Accounts and roles come first: they take minutes to become known everywhere, and so does creating Redis.
create_account "$service_account" "$service: runs the service"
create_account "$build_account" "$service: builds the image"
grant projects "$project" roles/run.builder "$build_account"
for role in $roles; do grant projects "$project" "$role" "$service_account"; done
create_budget
create_redis
wait_for_redis
keep_redis_secrets
keep_token_secret
for secret in $secrets; do grant secrets "$secret" roles/secretmanager.secretAccessor "$service_account"; done
build_context
deploy
report
