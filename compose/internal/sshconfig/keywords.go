package sshconfig

import (
	"slices"
	"strings"
)

// judge decides on a line that says nothing that is used.
func (r *resolver) judge(l line) error {
	if slices.Contains(strings.Fields(ofNoConcern), l.keyword) {
		return nil
	}
	named := func(rule rule) bool { return slices.Contains(strings.Fields(rule.names), l.keyword) }
	i := slices.IndexFunc(rules(), named)
	if i < 0 {
		if !anyOf(r.ignored, l.written) {
			r.warn(l, "this keyword is not known here")
		}
		return nil
	}
	switch rule := rules()[i]; {
	case slices.Contains(rule.harmless, strings.ToLower(l.args[0])):
	case rule.refused:
		return l.bad("%s", rule.reason)
	default:
		r.warn(l, rule.reason)
	}
	return nil
}

func (r *resolver) warn(l line, reason string) {
	r.found.Warnings = append(r.found.Warnings, l.String()+": not followed: "+reason)
}

// A rule is for keywords that would change where a connection goes, or who is
// trusted.
type rule struct {
	names    string   // in lower case
	harmless []string // values, in lower case, that say what is done anyway
	refused  bool     // rather than not followed with a warning
	reason   string
}

const (
	ourOwn    = "the algorithms are the program's own, without SHA-1"
	mustKnow  = "the host's key has to be known or pinned in any case"
	noLibrary = "no library is loaded; add the key to an SSH agent"
	system    = "the system chooses where a connection comes from"
)

// rules lists them.
func rules() []rule {
	no, none := []string{"no", "false"}, []string{"none"}
	return []rule{
		{"knownhostscommand", none, true, "would run a program on this machine: put the keys into a file for UserKnownHostsFile"},
		{"revokedhostkeys", none, true, "is not read: write the keys as @revoked lines into a file for UserKnownHostsFile"},
		{"canonicalizehostname", no, true, "would have DNS decide on the host: write its whole name as HostName"},
		{"pubkeyauthentication", []string{"yes", "true", "unbound", "host-bound"}, true, "keys are the only way to log in"},
		{"refuseconnection", nil, true, "says that this host is not to be connected to"},

		{"stricthostkeychecking", []string{"yes", "true", "ask"}, false, mustKnow},
		{"nohostauthenticationforlocalhost verifyhostkeydns", no, false, mustKnow},
		{"ciphers macs kexalgorithms hostkeyalgorithms casignaturealgorithms", nil, false, ourOwn},
		{"pubkeyacceptedalgorithms pubkeyacceptedkeytypes requiredrsasize", nil, false, ourOwn},
		{"pkcs11provider", none, false, noLibrary},
		{"securitykeyprovider", []string{"internal"}, false, noLibrary},
		{"bindaddress bindinterface", nil, false, system},
		{"addressfamily", []string{"any"}, false, system},
	}
}

// ofNoConcern are the keywords that concern terminals, forwardings, other ways
// to log in and what else a program that runs scripts does not do.
const ofNoConcern = `
	addkeystoagent batchmode canonicaldomains canonicalizefallbacklocal canonicalizemaxdots canonicalizepermittedcnames
	channeltimeout checkhostip clearallforwardings compression compressionlevel connectionattempts controlmaster controlpath
	controlpersist dynamicforward enableescapecommandline enablesshkeysign escapechar exitonforwardfailure fingerprinthash
	forkafterauthentication forwardagent forwardx11 forwardx11timeout forwardx11trusted gatewayports
	gssapiauthentication gssapiclientidentity gssapidelegatecredentials gssapikexalgorithms gssapikeyexchange
	gssapirenewalforcesrekey gssapiserveridentity gssapitrustdns hashknownhosts hostbasedacceptedalgorithms
	hostbasedauthentication hostbasedkeytypes ipqos kbdinteractiveauthentication challengeresponseauthentication
	kbdinteractivedevices localcommand localforward loglevel logverbose numberofpasswordprompts
	obscurekeystroketiming passwordauthentication permitlocalcommand permitremoteopen preferredauthentications
	protocol proxyusefdpass rekeylimit remotecommand remoteforward requesttty sendenv serveralivecountmax serveraliveinterval
	sessiontype setenv stdinnull streamlocalbindmask streamlocalbindunlink syslogfacility tag tcpkeepalive tunnel
	tunneldevice updatehostkeys usekeychain useroaming versionaddendum visualhostkey warnweakcrypto xauthlocation
`
