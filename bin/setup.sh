# Sourced by bin/pinstorm and test/run, with $root set to the checkout or the installed package. Everything here prints
# on stderr: stdout belongs to the command.
# shellcheck shell=sh
# shellcheck disable=SC2154  # $root comes from the caller
# shellcheck disable=SC3013  # -nt: not in POSIX, but in every sh we know of

say() { printf 'pinstorm: %s\n' "$1" >&2; }

# die STATUS MESSAGE HINT; the statuses are those of src/base/errors.ts.
die() {
  printf 'pinstorm: error: %s\nhint: %s\n' "$2" "$3" >&2
  exit "$1"
}

need_node() {
  command -v node >/dev/null || die 104 'Node.js is not installed' 'install Node.js 20.19 or newer and npm'
  version=$(node -v)
  major=${version#v} major=${major%%.*}
  minor=${version#v*.} minor=${minor%%.*}
  if [ "$major" -lt 20 ] || { [ "$major" -eq 20 ] && [ "$minor" -lt 19 ]; }; then
    die 104 "Node.js $version is too old" 'install Node.js 20.19 or newer; it must come first on the PATH'
  fi
}

# A node_modules that is a link belongs to somebody else (several worktrees can share one): never replaced.
modules_are_fresh() {
  [ -L "$root/node_modules" ] ||
    [ "$root/node_modules/.package-lock.json" -nt "$root/package-lock.json" ] ||
    cmp -s "$root/package-lock.json" "$root/node_modules/.pinstorm-lock"
}

build_is_fresh() {
  [ -e "$root/dist/.built" ] &&
    [ -z "$(find "$root/src" "$root/tsconfig.json" "$root/package-lock.json" -newer "$root/dist/.built" -print -quit)" ]
}

install_modules() {
  command -v npm >/dev/null || die 104 'npm is not installed' 'install npm, which comes with Node.js'
  say 'installing the dependencies with npm ci (once per change of package-lock.json)'
  # No dependency needs its install script: all bring prebuilt binaries.
  (cd "$root" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) ||
    die 104 'npm ci failed (see above)' "run it by hand in $root; it needs the network once"
  cp "$root/package-lock.json" "$root/node_modules/.pinstorm-lock"
}

build() {
  say 'building'
  # Stamped with the time before the build, so that a file saved meanwhile counts as newer.
  : >"$root/dist/.building"
  # The projects of their own are what runs in the browser and what drives one: they have the DOM.
  for project in tsconfig.json src/report/browser test/ui; do
    (cd "$root" && node_modules/.bin/tsc -p "$project" >&2) ||
      die 70 'the build failed (see above)' 'undo local changes of the sources, or mend them'
  done
  mv "$root/dist/.building" "$root/dist/.built"
}

# Installs and builds what is missing or stale. A package from a registry brings dist/ and no tsconfig.json.
prepare() {
  [ -e "$root/tsconfig.json" ] || return 0
  if modules_are_fresh && build_is_fresh; then return 0; fi
  mkdir -p "$root/dist" || die 104 "cannot write to $root" 'run pinstorm once as the user who owns the checkout'
  (
    # Commands started at the same moment wait for the first one's work.
    if command -v flock >/dev/null; then flock 9; fi
    modules_are_fresh || install_modules
    build_is_fresh || build
  ) 9>"$root/dist/.lock" || exit $?
}

# need_program PROGRAM DEBIAN_PACKAGE PACKAGE_ELSEWHERE OTHERWISE: a program of the system. As root on Debian it is
# installed; otherwise the message names the command, and OTHERWISE what else would do.
need_program() {
  if command -v "$1" >/dev/null; then return 0; fi
  if command -v apt-get >/dev/null; then
    if [ "$(id -u)" -eq 0 ]; then
      say "installing the system package $2 (apt-get), for $1"
      apt_install "$2" && return 0
      die 104 "installing $2 failed (see above)" "install it by hand$4"
    fi
    how="sudo apt-get install -y $2"
  elif command -v dnf >/dev/null; then
    how="sudo dnf install -y $3"
  elif command -v apk >/dev/null; then
    how="apk add $3"
  else
    how="brew install $3"
  fi
  die 104 "no $1 on the PATH" "install it: $how$4"
}

need_redis() { need_program redis-server redis-server redis ', or name a server with --redis URL'; }

# Package lists may be missing or outdated: they are fetched only when the first try fails.
apt_install() {
  try="apt-get install -y -qq --no-install-recommends $*"
  DEBIAN_FRONTEND=noninteractive $try </dev/null >/dev/null 2>&1 && return 0
  apt-get update -qq </dev/null >&2
  DEBIAN_FRONTEND=noninteractive $try </dev/null >&2
}
