# shellcheck shell=bash
# shellcheck disable=SC2154 # the options are set in options.sh
# The plugin's npm package, and the folder for Cloud Build.

PACKAGE=fastify-cloud-run-websocket
DEPENDENCY="\"$PACKAGE\": *\"([^\"]+)\""

# Cloud Build installs what package.json names. Check now, before Redis is created, that it is available.
check_package () {
  local manifest spec
  if [ -n "$package" ]; then
    [ -f "$package" ] || die "there is no file $package; create it with npm pack"
    manifest=$(tar -xzOf "$package" package/package.json 2> /dev/null) || die "$package is not a package; create it with npm pack"
    case $manifest in *"\"name\": \"$PACKAGE\""*) ;; *) die "$package is not $PACKAGE" ;; esac
    case $(<"$source/Dockerfile") in *.tgz*) ;; *) die "the Dockerfile in $source does not copy $PACKAGE.tgz before it installs; add it there: COPY package.json $PACKAGE.tgz ./" ;; esac
    requested_version > /dev/null || die "there is no $PACKAGE in the dependencies of $source/package.json"
    return
  fi
  # A source that does not use it, or has it in itself.
  spec=$(requested_version) || return 0
  case $spec in file:*|*/*) return 0 ;; esac
  if [ -z "$dry_run" ] && ! command -v npm > /dev/null; then
    say "npm is missing, so nobody checked whether $PACKAGE@$spec is available"
    return 0
  fi
  show npm view "$PACKAGE@$spec" version
  [ -n "$dry_run" ] || [ -n "$(npm view "$PACKAGE@$spec" version 2> "$tmp/errors")" ] ||
    die "npm has no $PACKAGE@$spec, so the image cannot be built. Create a package (npm pack, in the plugin's repository) and use --package FILE. npm says: $(<"$tmp/errors")"
}

# The version that package.json asks for.
requested_version () {
  [ -f "$source/package.json" ] && [[ $(<"$source/package.json") =~ $DEPENDENCY ]] || return 1
  echo "${BASH_REMATCH[1]}"
}

# With --package: a copy of the source, with the package in it. The source stays as it is.
build_context () {
  local entry manifest found
  context=$source
  [ -n "$package" ] || return 0
  echo "# CONTEXT: a copy of $source that installs $package" >&3
  context=CONTEXT
  [ -z "$dry_run" ] || return 0
  context=$tmp/context
  mkdir "$context"
  for entry in "$source"/* "$source"/.[!.]*; do
    case ${entry##*/} in node_modules|.git) continue ;; esac
    [ ! -e "$entry" ] || cp -R "$entry" "$context/"
  done
  cp "$package" "$context/$PACKAGE.tgz"
  manifest=$(<"$source/package.json")
  [[ $manifest =~ $DEPENDENCY ]]
  found=${BASH_REMATCH[0]}
  printf '%s"%s": "file:%s.tgz"%s\n' "${manifest%%"$found"*}" "$PACKAGE" "$PACKAGE" "${manifest#*"$found"}" > "$context/package.json"
  # It names the package of the registry.
  rm -f "$context/package-lock.json"
  [ ! -f "$source/package-lock.json" ] || say 'with --package, npm takes versions from package.json, not from package-lock.json'
}
