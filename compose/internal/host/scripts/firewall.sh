# Installs the static rules, or removes them. In: want (hardened or open). Needs
# root. Sandboxes that run are covered at once.
PATH=$PATH:/usr/sbin:/sbin
iptables -w 5 -S INPUT >/dev/null 2>&1 || die 82 "iptables cannot be used: the firewall is changed by root alone"

# unhook TOOL takes our chains out, wherever they are used.
unhook() {
	for chain in INPUT DOCKER-USER FORWARD; do
		while "$1" -w 5 -D "$chain" -i sbx+ -j SANDBOXER-IN 2>/dev/null; do :; done
		while "$1" -w 5 -D "$chain" -i sbx+ -j SANDBOXER-OUT 2>/dev/null; do :; done
	done
}

install() {
	rules "$2" "$3" | "$1-restore" -w 5 --noflush || return
	unhook "$1"
	"$1" -w 5 -I INPUT 1 -i sbx+ -j SANDBOXER-IN && "$1" -w 5 -I "$(forward_chain "$1")" 1 -i sbx+ -j SANDBOXER-OUT
}

remove() {
	unhook "$1"
	for chain in SANDBOXER-IN SANDBOXER-OUT; do
		"$1" -w 5 -F "$chain" 2>/dev/null && "$1" -w 5 -X "$chain"
	done
	! "$1" -w 5 -S 2>/dev/null | grep -q SANDBOXER-
}

for tool in iptables ip6tables; do
	[ "$tool" = iptables ] || [ -e /proc/net/if_inet6 ] || continue
	case $want:$tool in
	hardened:iptables) install iptables icmp-admin-prohibited 169.254.0.0/16 ;;
	hardened:ip6tables) install ip6tables icmp6-adm-prohibited fe80::/10 ;;
	*) remove "$tool" ;;
	esac || die 82 "$tool did not take the rules"
done
[ "$(firewall_state)" = "$want" ] || die 82 "the rules are not what was asked for: $(firewall_state)"
