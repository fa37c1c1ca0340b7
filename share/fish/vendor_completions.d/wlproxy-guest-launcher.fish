complete -c wlproxy-guest-launcher -s h -l help -d 'show this help message and exit'
complete -c wlproxy-guest-launcher -l agent -r -d 'where the agent lets launchers connect'
complete -c wlproxy-guest-launcher -l display -r -d 'WAYLANDDISPLAY of what is started'
complete -c wlproxy-guest-launcher -l version -d 'show programs version number and exit'
