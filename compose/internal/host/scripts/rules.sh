# Static rules of the host for the interfaces of sandboxes, told by the
# beginning of their names: nothing has to be done for each sandbox. They live
# in two chains of our own, SANDBOXER-IN and SANDBOXER-OUT.
#   sbxd...  closed: to its own network alone
#   sbxo...  open: not to the host, not to metadata services
#   sbxh...  open, and to the host
rules_version=1

# rules REJECTION METADATA: what the chains hold.
rules() {
	cat <<-RULES
		*filter
		:SANDBOXER-IN - [0:0]
		:SANDBOXER-OUT - [0:0]
		-A SANDBOXER-IN -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
		-A SANDBOXER-IN -i sbxh+ -j RETURN
		-A SANDBOXER-IN -m comment --comment sandboxer-rules-$rules_version -j REJECT --reject-with $1
		-A SANDBOXER-OUT -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
		-A SANDBOXER-OUT -i sbxd+ ! -o sbxd+ -j REJECT --reject-with $1
		-A SANDBOXER-OUT -d $2 -m comment --comment sandboxer-rules-$rules_version -j REJECT --reject-with $1
		COMMIT
	RULES
}

# forward_chain TOOL: where forwarded traffic passes before the engine's own rules.
forward_chain() {
	if "$1" -w 5 -S DOCKER-USER >/dev/null 2>&1; then echo DOCKER-USER; else echo FORWARD; fi
}

# in_force TOOL: both chains are there, of this version, and used.
in_force() {
	"$1" -w 5 -S SANDBOXER-IN 2>/dev/null | grep -q "sandboxer-rules-$rules_version " &&
		"$1" -w 5 -S SANDBOXER-OUT 2>/dev/null | grep -q "sandboxer-rules-$rules_version " &&
		"$1" -w 5 -C INPUT -i sbx+ -j SANDBOXER-IN 2>/dev/null &&
		"$1" -w 5 -C "$(forward_chain "$1")" -i sbx+ -j SANDBOXER-OUT 2>/dev/null
}

# firewall_state says "hardened", "open", or "unknown" where it may not be looked at.
firewall_state() {
	PATH=$PATH:/usr/sbin:/sbin
	if ! iptables -w 5 -S INPUT >/dev/null 2>&1; then
		echo unknown
	elif in_force iptables && { [ ! -e /proc/net/if_inet6 ] || in_force ip6tables; }; then
		echo hardened
	else
		echo open
	fi
}
