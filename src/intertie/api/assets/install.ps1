# Makes this machine a node of an Intertie gateway, brings it up to date, or takes everything away again.
# For Windows PowerShell 5.1 and PowerShell 7.
#
#   irm GATEWAY/install.ps1 | iex
#   & ([scriptblock]::Create((irm GATEWAY/install.ps1))) -DryRun
#
# A gateway fills in the words between @ signs when it serves this file, so get it from your gateway, not from here.
# All of it is one block that ends on the last line: a download that was cut short is an error of syntax and does nothing.
#
# What this gateway offers:
# @FILES@

if ($true) {

function Get-IntertieSettings {
    @{
        Gateway = '@GATEWAY@'
        Version = '@VERSION@'
        PublicKey = '@PUBLIC_KEY@'
        Zipapp = '@ZIPAPP@'
        Sha256 = '@ZIPAPP_SHA256@'
        Task = 'intertie-node'
    }
}

function Get-IntertieVerifier {
    @'
@VERIFY@
'@
}

function Get-IntertieService {
    @'
@SERVICE@
'@
}

function Get-IntertieHelp {
    @'
Install-IntertieNode [option...]
  -Name NAME         what people shall call this node; this machine's own name unless set
  -TokenFile FILE    file with the enrolment token; else $env:INTERTIE_TOKEN, else you are asked for it
                     without a token, a short code is shown for an operator to approve
  -Label KEY=VALUE   labels to ask for, separated by commas
  -Runtime URL       addresses of model servers to offer. Those on this machine are found without it
  -Idle              serve only while nobody uses this machine
  -User              install for yourself only, started when you log on (the default)
  -System            install for the whole machine, started with it; needs an administrator
  -NoService         do not start it by itself; you run it
  -Insecure          allow http:// to another machine, where everybody on the way can read and change everything
  -Yes               ask nothing
  -DryRun            only say what would be done
  -Uninstall         take everything away again; works without a network
  -KeepKey           with -Uninstall: keep the node's identity, to come back as the same node
  -Version           print the version of the agent that this installs
  -Help              print this
'@
}

# Everything that may be done, in order. A row counts if its mode is asked for and all words of If hold for the facts
# ('!' means not). Say is what people read; Do names the function that does it, '' where there is nothing to do.
function Get-IntertieTable {
    @(
        @{ Mode = 'install'; If = '!UvWanted'; Do = ''; Say = 'use {Python}' }
        @{ Mode = 'install'; If = 'UvWanted'; Do = 'FetchPython'; Say = 'get Python 3.13 with uv into {UvFolder}' }
        @{ Mode = 'install'; If = ''; Do = 'Download'; Say = 'download {Zipapp} from the gateway and check its SHA-256 and signature' }
        @{ Mode = 'install'; If = ''; Do = 'PutFiles'; Say = 'put it into {Folder}, with the command {Launcher}' }
        @{ Mode = 'install'; If = 'System'; Do = 'LockFolder'; Say = 'let only administrators and the service into {NodeFolder}' }
        @{ Mode = 'install'; If = 'Enrolled !TokenGiven'; Do = ''; Say = 'keep the identity in {NodeFolder}' }
        @{ Mode = 'install'; If = 'Enrolled TokenGiven'; Do = 'JoinAgain'; Say = 'enrol this machine again with the new token; where that is refused, keep the identity in {NodeFolder}' }
        @{ Mode = 'install'; If = '!Enrolled'; Do = 'Join'; Say = 'enrol this machine; its own key stays in {NodeFolder}' }
        @{ Mode = 'install'; If = 'Service !System'; Do = 'AddTask'; Say = 'start it now and whenever you log on: scheduled task {Task}' }
        @{ Mode = 'install'; If = 'Service System'; Do = 'AddTask'; Say = 'start it now and with the machine: scheduled task {Task}' }
        @{ Mode = 'install'; If = '!Service'; Do = ''; Say = 'set up no task: you asked for none' }
        @{ Mode = 'uninstall'; If = 'Enrolled'; Do = 'Leave'; Say = 'finish what runs, and tell the gateway if it can be reached' }
        @{ Mode = 'uninstall'; If = ''; Do = 'RemoveTask'; Say = 'stop and remove the scheduled task {Task}' }
        @{ Mode = 'uninstall'; If = ''; Do = 'RemoveFiles'; Say = 'remove {Folder}' }
        @{ Mode = 'uninstall'; If = 'KeepKey'; Do = ''; Say = 'keep the identity in {NodeFolder}' }
        @{ Mode = 'uninstall'; If = '!KeepKey'; Do = 'RemoveIdentity'; Say = 'remove the identity in {NodeFolder}' }
    )
}

# The rows of the table that count. Looks at nothing but its arguments.
function Select-IntertieSteps {
    param($Table, [string]$Mode, $Facts)
    foreach ($row in $Table) {
        $counts = $row.Mode -eq $Mode
        foreach ($word in $row.If.Split(' ')) {
            if ($word -eq '') { continue }
            $holds = [bool]$Facts[$word.TrimStart('!')]
            if ($holds -eq $word.StartsWith('!')) { $counts = $false }
        }
        if ($counts) { $row }
    }
}

# The words of a step, with the facts in place of {Names}. Looks at nothing but its arguments.
function Format-IntertieStep {
    param($Step, $Facts)
    $text = $Step.Say
    foreach ($name in $Facts.Keys) { $text = $text.Replace('{' + $name + '}', [string]$Facts[$name]) }
    '  ' + $text
}

# -- finding out -------------------------------------------------------------------------------------------------------

function Get-IntertieFacts {
    param($Settings, $Options)
    $facts = @{}
    foreach ($name in $Settings.Keys) { $facts[$name] = $Settings[$name] }
    foreach ($name in $Options.Keys) { $facts[$name] = $Options[$name] }
    if ($Options.System) {
        $facts.Folder = Join-Path $env:ProgramFiles 'intertie-node'
        $facts.NodeFolder = Join-Path $env:ProgramData 'intertie-node'
    } else {
        $facts.Folder = Join-Path $env:LOCALAPPDATA 'intertie-node'
        $facts.NodeFolder = Join-Path $env:USERPROFILE '.intertie-node'
    }
    $facts.UvFolder = Join-Path $facts.Folder 'uv'
    $facts.Launcher = Join-Path $facts.Folder 'intertie-node.cmd'
    $facts.Enrolled = Test-Path (Join-Path $facts.NodeFolder 'node.json')
    $facts.TokenGiven = [bool]($Options.TokenFile -or $env:INTERTIE_TOKEN)
    $facts.Service = -not $Options.NoService
    $facts.Python = ''
    $facts.UvWanted = $false
    $facts
}

# The interpreter behind a command if it is Python 3.11 or later, else ''. The alias that opens the Store says nothing.
function Test-IntertiePython {
    param([string]$Command, [string[]]$First)
    $code = 'import ssl, sys; print((getattr(sys, ''_base_executable'', None) or sys.executable) if sys.version_info >= (3, 11) else '''')'
    try {
        $said = & $Command @First -I -c $code 2>$null
        if ($LASTEXITCODE -eq 0 -and $said) { return ([string]@($said)[-1]).Trim() }
    } catch {
        Write-Verbose "$Command does not run: $_"
    }
    ''
}

function Find-IntertiePython {
    param($Facts)
    $old = Get-ChildItem -Path (Join-Path $Facts.UvFolder '*\python.exe') -ErrorAction SilentlyContinue | Select-Object -First 1
    $tries = @(
        @{ Command = 'py'; First = @('-3') }
        @{ Command = 'python'; First = @() }
        @{ Command = 'python3'; First = @() }
    )
    if ($old) { $tries += @{ Command = $old.FullName; First = @() } }
    foreach ($try in $tries) {
        if (-not (Get-Command $try.Command -CommandType Application -ErrorAction SilentlyContinue)) { continue }
        $found = Test-IntertiePython $try.Command $try.First
        # A service of the whole machine must not depend on somebody's own folder.
        $own = $Facts.System -and $found.StartsWith((Split-Path $env:USERPROFILE), 'OrdinalIgnoreCase')
        if ($found -and -not $own) {
            $Facts.Python = $found
            return
        }
    }
    if (Get-Command 'uv' -CommandType Application -ErrorAction SilentlyContinue) {
        $Facts.UvWanted = $true
        return
    }
    throw ('Python 3.11 or later is needed and none was found. Install it:  winget install Python.Python.3.13 ' +
        '(with --scope machine for -System). Or install uv, which this script then uses to get one:  ' +
        'winget install astral-sh.uv. Then run this again.')
}

function Test-IntertieGateway {
    param($Facts)
    $gateway = $Facts.Gateway
    if ($gateway.StartsWith('@')) {
        throw 'This is the template. Get the installer from your gateway: irm https://YOUR-GATEWAY/install.ps1 | iex'
    }
    $loopback = $gateway -match '^http://(127\.0\.0\.1|localhost|\[::1\])([:/]|$)'
    if (-not ($gateway.StartsWith('https://') -or $loopback -or $Facts.Insecure)) {
        throw ("The gateway's address is $gateway, without TLS: everybody on the way could read and change what " +
            'passes. Put TLS in front of the gateway, or say -Insecure.')
    }
}

function Test-IntertieAdministrator {
    $me = New-Object Security.Principal.WindowsPrincipal ([Security.Principal.WindowsIdentity]::GetCurrent())
    $me.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)
}

# The token, or '' for a code to be approved. It goes to the agent in its environment, never as an argument.
function Get-IntertieToken {
    param($Facts)
    if ($Facts.TokenFile) { return ([string](Get-Content -LiteralPath $Facts.TokenFile -TotalCount 1)).Trim() }
    if ($env:INTERTIE_TOKEN) { return $env:INTERTIE_TOKEN }
    if ($Facts.Yes -or -not [Environment]::UserInteractive) { return '' }
    $secret = Read-Host 'Enrolment token (empty: get a code to be approved)' -AsSecureString
    (New-Object Management.Automation.PSCredential ('token', $secret)).GetNetworkCredential().Password
}

# -- the steps ---------------------------------------------------------------------------------------------------------

function Invoke-IntertieFetchPython {
    param($Facts)
    New-Item -ItemType Directory -Force -Path $Facts.UvFolder | Out-Null
    $env:UV_PYTHON_INSTALL_DIR = $Facts.UvFolder
    $env:UV_PYTHON_INSTALL_BIN = '0'
    try {
        & uv python install --quiet 3.13
        if ($LASTEXITCODE -ne 0) { throw 'uv could not get Python 3.13. Install Python yourself and run this again.' }
        $found = & uv python find --managed-python 3.13
        $Facts.Python = Test-IntertiePython ([string]$found) @()
        if (-not $Facts.Python) { throw "The Python that uv got does not run: $found" }
    } finally {
        Remove-Item -Path 'Env:UV_PYTHON_INSTALL_DIR', 'Env:UV_PYTHON_INSTALL_BIN'
    }
}

function Invoke-IntertieDownload {
    param($Facts)
    foreach ($path in 'manifest.json', 'manifest.sig', "files/$($Facts.Zipapp)") {
        $url = "$($Facts.Gateway)/install/$path"
        try {
            Invoke-WebRequest -Uri $url -UseBasicParsing -OutFile (Join-Path $Facts.Stage (Split-Path $path -Leaf))
        } catch {
            throw "Cannot download $url ($_). Is the gateway running, and can this machine reach it?"
        }
    }
    $verifier = Join-Path $Facts.Stage 'verify.py'
    [IO.File]::WriteAllText($verifier, (Get-IntertieVerifier))
    & $Facts.Python -I $verifier $Facts.Stage $Facts.PublicKey $Facts.Sha256 $Facts.Zipapp
    if ($LASTEXITCODE -ne 0) { throw 'What was downloaded is not what this gateway signed; see above. Nothing was installed.' }
}

function Invoke-IntertiePutFiles {
    param($Facts)
    New-Item -ItemType Directory -Force -Path $Facts.Folder | Out-Null
    if (Get-ScheduledTask -TaskName $Facts.Task -ErrorAction SilentlyContinue) { Stop-ScheduledTask -TaskName $Facts.Task }
    Copy-Item -Force -LiteralPath (Join-Path $Facts.Stage $Facts.Zipapp) -Destination $Facts.Folder
    [IO.File]::WriteAllText((Join-Path $Facts.Folder 'service.py'), (Get-IntertieService))
    $lines = @(
        '@echo off'
        "set `"INTERTIE_NODE_DATA=$($Facts.NodeFolder)`""
        "`"$($Facts.Python)`" -I `"$(Join-Path $Facts.Folder $Facts.Zipapp)`" %*"
    )
    [IO.File]::WriteAllLines($Facts.Launcher, $lines, [Text.Encoding]::Default)
    & $Facts.Launcher version | Out-Null
    if ($LASTEXITCODE -ne 0) { throw 'The agent does not start; see above. Undo it with -Uninstall.' }
}

function Invoke-IntertieLockFolder {
    param($Facts)
    New-Item -ItemType Directory -Force -Path $Facts.NodeFolder | Out-Null
    # By number, because the names differ between languages: SYSTEM, administrators, LOCAL SERVICE.
    & icacls $Facts.NodeFolder /inheritance:r /grant:r '*S-1-5-18:(OI)(CI)F' '*S-1-5-32-544:(OI)(CI)F' '*S-1-5-19:(OI)(CI)M' | Out-Null
    if ($LASTEXITCODE -ne 0) { throw "Cannot set who may read $($Facts.NodeFolder)." }
}

function Invoke-IntertieJoin {
    param($Facts, [string[]]$More = @())
    $token = Get-IntertieToken $Facts
    $words = @('join', $Facts.Gateway, '--no-run') + $More
    if ($Facts.Name) { $words += @('--name', $Facts.Name) }
    if ($Facts.Idle) { $words += '--idle' }
    if ($Facts.Insecure) { $words += '--insecure' }
    foreach ($label in $Facts.Label) { $words += @('--label', $label) }
    foreach ($runtime in $Facts.Runtime) { $words += @('--runtime', $runtime) }
    if (-not $token) { $words += '--code' }
    $before = $env:INTERTIE_TOKEN
    try {
        $env:INTERTIE_TOKEN = $token
        & $Facts.Python -I (Join-Path $Facts.Folder $Facts.Zipapp) @words --data $Facts.NodeFolder
    } finally {
        $env:INTERTIE_TOKEN = $before
    }
    if ($LASTEXITCODE -ne 0) {
        throw 'This machine is not enrolled; see above. Run this again when that is mended, or undo it with -Uninstall.'
    }
}

function Invoke-IntertieJoinAgain {
    param($Facts)
    try {
        Invoke-IntertieJoin $Facts '--replace'
    } catch {
        Write-Warning 'This machine was not enrolled again; see above. It stays the node it was.'
    }
}

function Invoke-IntertieAddTask {
    param($Facts)
    $hidden = Join-Path (Split-Path $Facts.Python) 'pythonw.exe'
    if (-not (Test-Path $hidden)) { $hidden = $Facts.Python }
    $words = "-I `"$(Join-Path $Facts.Folder 'service.py')`" `"$($Facts.NodeFolder)`""
    $action = New-ScheduledTaskAction -Execute $hidden -Argument $words -WorkingDirectory $Facts.Folder
    $settings = New-ScheduledTaskSettingsSet -Hidden -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries `
        -StartWhenAvailable -RestartCount 999 -RestartInterval (New-TimeSpan -Minutes 1) `
        -ExecutionTimeLimit ([TimeSpan]::Zero) -MultipleInstances IgnoreNew
    if ($Facts.System) {
        $trigger = New-ScheduledTaskTrigger -AtStartup
        $principal = New-ScheduledTaskPrincipal -UserId 'S-1-5-19' -LogonType ServiceAccount
    } else {
        $me = [Security.Principal.WindowsIdentity]::GetCurrent().Name
        $trigger = New-ScheduledTaskTrigger -AtLogOn -User $me
        $principal = New-ScheduledTaskPrincipal -UserId $me -LogonType Interactive -RunLevel Limited
    }
    Register-ScheduledTask -Force -TaskName $Facts.Task -Description 'Serves the models of this machine through a gateway.' `
        -Action $action -Trigger $trigger -Principal $principal -Settings $settings | Out-Null
    Start-ScheduledTask -TaskName $Facts.Task
}

function Invoke-IntertieLeave {
    param($Facts)
    $words = @('leave')
    if ($Facts.KeepKey) { $words += '--keep-key' }
    try {
        & $Facts.Launcher @words
        if ($LASTEXITCODE -ne 0) { throw "it ended with $LASTEXITCODE" }
    } catch {
        Write-Warning "The gateway may not know ($_); an operator removes the node there."
    }
}

function Invoke-IntertieRemoveTask {
    param($Facts)
    if (Get-ScheduledTask -TaskName $Facts.Task -ErrorAction SilentlyContinue) {
        Stop-ScheduledTask -TaskName $Facts.Task
        Unregister-ScheduledTask -TaskName $Facts.Task -Confirm:$false
    }
}

function Invoke-IntertieRemoveFiles {
    param($Facts)
    if (Test-Path $Facts.Folder) { Remove-Item -Recurse -Force -LiteralPath $Facts.Folder }
}

function Invoke-IntertieRemoveIdentity {
    param($Facts)
    if (Test-Path $Facts.NodeFolder) { Remove-Item -Recurse -Force -LiteralPath $Facts.NodeFolder }
}

# -- the whole ---------------------------------------------------------------------------------------------------------

function Install-IntertieNode {
    [CmdletBinding()]
    param(
        [string]$Name = '',
        [string]$TokenFile = '',
        [string[]]$Label = @(),
        [string[]]$Runtime = @(),
        [switch]$Idle,
        [switch]$User,
        [switch]$System,
        [switch]$NoService,
        [switch]$Insecure,
        [switch]$Yes,
        [switch]$DryRun,
        [switch]$Uninstall,
        [switch]$KeepKey,
        [switch]$Version,
        [switch]$Help
    )
    $ErrorActionPreference = 'Stop'
    $ProgressPreference = 'SilentlyContinue' # its drawing makes downloads slow
    $settings = Get-IntertieSettings
    if ($Help) { return Get-IntertieHelp }
    if ($Version) { return $settings.Version }
    if ($User -and $System) { throw 'Say -User or -System, not both.' }
    $options = @{
        Name = $Name; TokenFile = $TokenFile; Label = $Label; Runtime = $Runtime; Idle = [bool]$Idle
        System = [bool]$System; NoService = [bool]$NoService; Insecure = [bool]$Insecure; Yes = [bool]$Yes
        KeepKey = [bool]$KeepKey
    }
    $facts = Get-IntertieFacts $settings $options
    if ($Uninstall) {
        $mode = 'uninstall'
        'This takes the node away from this machine:'
    } else {
        $mode = 'install'
        Test-IntertieGateway $facts
        Find-IntertiePython $facts
        "This makes this machine a node of $($facts.Gateway) (agent $($facts.Version)):"
    }
    $steps = @(Select-IntertieSteps (Get-IntertieTable) $mode $facts)
    foreach ($step in $steps) { Format-IntertieStep $step $facts }
    if ($DryRun) { return 'Nothing was done: this was -DryRun.' }
    if ($System -and -not (Test-IntertieAdministrator)) { throw '-System needs an administrator: open PowerShell as one.' }
    if (-not $Yes -and [Environment]::UserInteractive) {
        $answer = Read-Host 'Go on? [Y/n]'
        if ($answer -notmatch '^\s*([yY]|$)') { return 'Nothing was done.' }
    }
    # Older Windows would offer the gateway nothing but TLS 1.0.
    [Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12
    $facts.Stage = Join-Path ([IO.Path]::GetTempPath()) ([Guid]::NewGuid().ToString())
    New-Item -ItemType Directory -Path $facts.Stage | Out-Null
    try {
        foreach ($step in $steps) {
            if ($step.Do) { & "Invoke-Intertie$($step.Do)" $facts }
        }
    } finally {
        Remove-Item -Recurse -Force -LiteralPath $facts.Stage
    }
    if ($Uninstall) { return 'Done.' }
    if ($facts.Service) { 'Done. This node serves now and from now on.' } else { "Done. Start it by hand: $($facts.Launcher) run" }
    "Look at it with: $($facts.Launcher) status      Check everything: $($facts.Launcher) doctor"
}

Install-IntertieNode @args
}
