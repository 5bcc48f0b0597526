#!/bin/sh
# Installs what the tests need and this machine lacks: PostgreSQL, Chromium and,
# where there is a package of it, its headless shell (the stories take a third of
# the time in it), Node.js with npm, an authenticator app that is none of ours
# (zbarimg reads QR codes, oathtool computes codes), on Linux a C compiler (for the
# race detector) and what workspaces are made of there (mod_auth_openidc in an
# Apache that nobody starts, Authlib for Debian's Python), and the commands named
# as arguments. It is quiet when nothing is missing.
set -eu

has() { command -v "$1" >/dev/null 2>&1; }
is() { for file; do if [ -x "$file" ]; then return 0; fi; done; return 1; }

# Whether apt knows a package.
packaged() { has apt-cache && apt-cache show "$1" >/dev/null 2>&1; }

# What is missing, each as its name in the list of the platform below.
missing() {
	for command; do has "$command" || is "/usr/sbin/$command" || echo "$command"; done
	[ "$(uname)" = Darwin ] || has cc || has gcc || has clang || echo cc
	[ -n "${HARMONY_ID_TEST_POSTGRES:-}" ] || has initdb ||
		is /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb \
			/opt/homebrew/opt/postgresql@*/bin/initdb /usr/local/opt/postgresql@*/bin/initdb || echo postgresql
	[ -n "${HARMONY_ID_TEST_CHROMIUM:-}" ] ||
		has chromium || has chromium-browser || has google-chrome || has google-chrome-stable ||
		is "/Applications/Chromium.app/Contents/MacOS/Chromium" \
			"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" || echo chromium
	[ -n "${HARMONY_ID_TEST_CHROMIUM:-}" ] || has chromium-headless-shell || ! packaged chromium-headless-shell || echo chromium-headless-shell
	has node || echo nodejs
	has npm || echo npm
	has zbarimg || echo zbar
	has oathtool || echo oathtool
	[ "$(uname)" = Darwin ] || {
		is /usr/sbin/apache2 || echo apache2
		[ -e /usr/lib/apache2/modules/mod_auth_openidc.so ] || echo mod_auth_openidc
		/usr/bin/python3 -c 'import authlib, flask, requests' 2>/dev/null || echo authlib
	}
}

want=$(missing "$@")
[ -n "$want" ] || exit 0
echo "The tests need and this machine lacks:" $want

if has apt-get; then
	root=
	if [ "$(id -u)" != 0 ]; then
		has sudo || { echo "Run this as root, or install sudo." >&2; exit 1; }
		root=sudo
	fi
	install() { $root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" </dev/null; }
	packages=
	for name in $want; do
		case $name in
		cc) packages="$packages gcc libc6-dev" ;;
		chromium-headless-shell) ;; # below: only now apt knows whether there is one
		npm) ;; # some builds of nodejs bring it along, and then refuse Debian's
		zbar) packages="$packages zbar-tools" ;;
		apache2) packages="$packages apache2-bin" ;; # the program without the service
		mod_auth_openidc) packages="$packages libapache2-mod-auth-openidc" ;;
		authlib) packages="$packages python3 python3-authlib python3-flask python3-requests" ;;
		*) packages="$packages $name" ;;
		esac
	done
	$root apt-get update -q
	[ -n "${HARMONY_ID_TEST_CHROMIUM:-}" ] || ! packaged chromium-headless-shell || packages="$packages chromium-headless-shell"
	[ -z "$packages" ] || install $packages
	has npm || install npm
elif has brew; then
	for name in $want; do
		case $name in
		postgresql) brew install postgresql@17 ;;
		chromium) brew install --cask google-chrome ;;
		nodejs | npm) brew install node ;;
		oathtool) brew install oath-toolkit ;;
		*) brew install "$name" ;;
		esac
	done
else
	echo "There is neither apt-get nor brew to install them with: install them and run this again." >&2
	exit 1
fi

want=$(missing "$@")
[ -z "$want" ] || { echo "Still missing after the installation:" $want >&2; exit 1; }
