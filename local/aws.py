"""The AWS provider of the local engine: checks inputs against the tables; makes, changes and deletes through boto3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import jmespath
from botocore.session import get_session

from local.calls import ApiError, Caller
from local.changes import changed_inputs, difference, documents_of, keeps_its_name, lifecycle, steps_of
from local.emulation import has_path, not_taken, without_path
from local.errors import HalfMadeError, InputsError, LocalError, NotReadableError, Problem
from local.invokes import INVOKES
from local.mapping import normal, to_parameters
from local.provider import Subject, automatic_name
from local.records import Difference, NotEmulated
from local.schema import type_schema
from local.types import NOT_EMULATED, TYPES
from local.types.documents import document
from local.types.lifecycles.tags import change_tags, tagging
from local.types.lifecycles.vocabulary import Changed
from local.types.spec import Autoname, Made, TypeSpec, fill
from local.wire import UNKNOWN


class AwsProvider:
    """Makes `aws:` resources; `configuration` is the provider's own (region, defaultTags), `caller` None a preview."""

    def __init__(self, *, configuration: Mapping[str, Any], caller: Caller | None) -> None:
        self._configuration = configuration
        self._caller = caller

    def check(
        self, subject: Subject, inputs: Mapping[str, Any], old_inputs: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The inputs with names and default tags filled in; an automatic name of `old_inputs` stays.

        Raises InputsError naming every input that does not map.
        """
        spec = _spec(subject)
        schema = type_schema(subject.type)
        checked = dict(inputs)
        if spec is not None and spec.autoname is not None and spec.autoname.property not in checked:
            name = spec.autoname.property
            kept = keeps_its_name(name, inputs=inputs, old=old_inputs or {})
            checked[name] = (old_inputs or {})[name] if kept else automatic_name(subject, spec.autoname)
        if "tags" in schema.inputs:
            self._merge_default_tags(checked)
        problems = [Problem(name, "is not an input of this type") for name in sorted(set(checked) - schema.inputs)]
        problems += [Problem(name, "is required") for name in sorted(schema.required - set(checked))]
        if spec is not None and not problems:
            _, problems = self._parameters(subject, spec.for_inputs(checked), checked)
        if problems:
            raise InputsError(f"{subject.type} {subject.name}", problems)
        return checked

    def not_emulated(self, subject: Subject, inputs: Mapping[str, Any]) -> list[NotEmulated]:
        """What of this resource the emulators do not take, from the one table."""
        return [
            NotEmulated(urn=subject.urn, type=subject.type, property=path, reason=reason)
            for path, reason in not_taken(subject.type)
            if not path or has_path(inputs, path.split("."))
        ]

    def planned(
        self, subject: Subject, inputs: Mapping[str, Any], old_outputs: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The outputs that are known before creation: the inputs, with documents as the text that AWS hands back.

        Before a change in place, those of before as well, and unknown what the change may change.
        """
        spec = _spec(subject)
        documents = documents_of(spec)
        planned = {name: document(value) if name in documents else value for name, value in inputs.items()}
        if old_outputs is None:
            return planned
        volatile = dict.fromkeys(lifecycle(subject.type).volatile, UNKNOWN) if spec is not None else {}
        return {**_kept(inputs, old_outputs), **planned, **volatile}

    def create(self, subject: Subject, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Make the resource; its id and all its outputs that are known."""
        spec = _spec(subject)
        if spec is None:
            return f"not-emulated-{automatic_name(subject, Autoname('id'))}", dict(inputs)
        spec = spec.for_inputs(inputs)
        parameters, _ = self._parameters(subject, spec, inputs)
        answer = self._call(spec.service, spec.operation, **parameters)
        resource_id = _identity(spec, subject, inputs, answer)
        made = self._made(inputs=inputs, answer=answer, resource_id=resource_id)
        try:
            for step in spec.follow:
                if not step.inputs or any(name in inputs for name in step.inputs):
                    step.send(made)
            return resource_id, self._outputs(spec, subject, made)
        except LocalError as error:
            raise HalfMadeError(str(error), resource_id=resource_id, outputs=self.planned(subject, inputs)) from error

    def read(self, subject: Subject, resource_id: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs of a resource that exists already."""
        spec = _spec(subject)
        if spec is None or spec.read is None:
            raise NotReadableError(
                f"{subject.type} {subject.name}: the local engine cannot read this type; create it instead"
            )
        made = self._made(inputs=inputs, answer={}, resource_id=resource_id)
        return self._outputs(spec, subject, made)

    def diff(
        self,
        subject: Subject,
        resource_id: str,  # noqa: ARG002 - protocol
        old_inputs: Mapping[str, Any],
        old_outputs: Mapping[str, Any],  # noqa: ARG002 - protocol
        new_inputs: Mapping[str, Any],
    ) -> Difference:
        """What changes between the inputs of a resource that is made and new ones; an unknown counts as changed."""
        spec = _spec(subject)
        row = None if spec is None else spec.for_inputs(new_inputs)
        return difference(subject.type, row, old=old_inputs, new=new_inputs, documents=documents_of(spec))

    def update(
        self,
        subject: Subject,
        resource_id: str,
        old_inputs: Mapping[str, Any],
        old_outputs: Mapping[str, Any],
        new_inputs: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Change the resource in place; its outputs. Raises LocalError when a call fails, and can be called again."""
        spec = _spec(subject)
        kept = {name: old_outputs[name] for name in old_outputs if name in new_inputs or name not in old_inputs}
        outputs = {**_kept(new_inputs, kept), **self.planned(subject, new_inputs)}
        if spec is None:
            return outputs
        spec = spec.for_inputs(new_inputs)
        names = changed_inputs(old_inputs, new_inputs, documents=documents_of(spec))
        calls, tags = steps_of(subject.type, spec, names, old=old_inputs, new=new_inputs)
        changed = Changed(
            **vars(self._made(inputs=new_inputs, answer=old_outputs, resource_id=resource_id)),
            old=old_inputs,
            names=frozenset(names),
            service=spec.service,
            operation=spec.operation,
            mapped=partial(_mapped, spec),
            creation=lambda: _checked(spec.operation, spec, self._parameters(subject, spec, new_inputs)),
        )
        for change, carried in calls:
            outputs |= change.send(replace(changed, names=carried)) or {}
        way = tagging(subject.type, spec.service)
        if tags and way is not None:
            change_tags(way, changed)
        return outputs

    def delete(self, subject: Subject, resource_id: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Delete the resource; one that is gone already is no error."""
        spec = _spec(subject)
        if spec is None:
            return
        spec = spec.for_inputs(inputs)
        made = replace(self._made(inputs=inputs, answer=outputs, resource_id=resource_id), call=self._call_for_absence)
        delete = lifecycle(subject.type).delete
        try:
            if callable(delete):
                delete(made)
            else:
                operation, template = delete
                made.call(spec.service, operation, **fill(template, {**outputs, **inputs, "id": resource_id}))
        except ApiError as error:
            if not error.gone:
                raise

    def invoke(self, token: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of a data source."""
        answer = INVOKES.get(token)
        if answer is None:
            raise LocalError(f"invoke {token} is not known to the local engine; add it to local/invokes.py")
        return answer(self._made(inputs=arguments, answer={}, resource_id=""))

    def _parameters(
        self, subject: Subject, spec: TypeSpec, inputs: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[Problem]]:
        """The creating operation's parameters, and what did not map."""
        sent: Mapping[str, Any] = spec.sent(inputs)
        for path, _ in not_taken(subject.type):
            sent = without_path(sent, path.split(".")) if path else sent
        if spec.reshape is not None:
            sent = spec.reshape(sent)
        parameters, problems = to_parameters(
            service=spec.service, operation=spec.operation, inputs=sent, rename=spec.rename, convert=spec.convert
        )
        if spec.tag_as and inputs.get("tags"):
            tags = [{"Key": key, "Value": value} for key, value in inputs["tags"].items()]
            parameters["TagSpecifications"] = [{"ResourceType": spec.tag_as, "Tags": tags}]
        if spec.fixed is not None:
            parameters |= spec.fixed(self.region)
        return parameters, problems

    def _call(self, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        if self._caller is None:
            raise LocalError(f"{service}:{operation} was asked for in a preview, which makes no API calls")
        return self._caller(service, operation, **parameters)

    def _call_for_absence(self, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        """A call of a deletion: what it is to take away may be gone already."""
        try:
            return self._call(service, operation, **parameters)
        except ApiError as error:
            if error.gone and not operation.startswith(("Get", "List", "Describe")):
                return {}
            raise

    def _made(self, *, inputs: Mapping[str, Any], answer: Mapping[str, Any], resource_id: str) -> Made:
        return Made(
            call=self._call,
            region=self.region,
            account=self.account,
            partition=self.partition,
            inputs=inputs,
            answer=answer,
            id=resource_id,
        )

    @cached_property
    def region(self) -> str:
        """The provider's region; there is no default."""
        region = self._configuration.get("region")
        if not isinstance(region, str) or not region:
            raise LocalError("aws:region is not set; add it to the stack's configuration file")
        return region

    @cached_property
    def partition(self) -> str:
        """The partition that the region belongs to, from botocore's own data."""
        return str(get_session().get_partition_for_region(self.region))

    @cached_property
    def account(self) -> str:
        """The account that the credentials belong to, asked of STS once."""
        return str(self._call("sts", "GetCallerIdentity")["Account"])

    def _merge_default_tags(self, inputs: dict[str, Any]) -> None:
        """Put the provider's default tags under the resource's own, where tags are a map, as the real provider does."""
        defaults = (self._configuration.get("defaultTags") or {}).get("tags") or {}
        own = inputs.get("tags", {})
        if isinstance(own, dict) and (defaults or own):
            inputs["tags"] = {**defaults, **own}

    def _outputs(self, spec: TypeSpec, subject: Subject, made: Made) -> dict[str, Any]:
        if spec.read is None:
            state = jmespath.search(spec.state, made.answer) or {}
        else:
            operation, template, path = spec.read
            filled = fill(template, {**made.inputs, "id": made.id})
            state = jmespath.search(path, self._call(spec.service, operation, **filled)) or {}
        outputs = _by_name(state, type_schema(subject.type).outputs)
        outputs |= self.planned(subject, made.inputs)
        for name, path in spec.outputs.items():
            value = jmespath.search(path, state)
            if value is not None:
                outputs[name] = value
        if spec.derive is not None:
            outputs |= spec.derive(made)
        if isinstance(made.inputs.get("tags"), dict):
            outputs["tagsAll"] = made.inputs["tags"]
        return outputs


def _spec(subject: Subject) -> TypeSpec | None:
    """The type's row; None when it is not emulated at all."""
    spec = TYPES.get(subject.type)
    if spec is None and subject.type not in NOT_EMULATED:
        raise LocalError(
            f"{subject.type} {subject.name}: the local engine does not know this type; add it to local/types"
        )
    return spec


def _mapped(spec: TypeSpec, operation: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """An operation's parameters for inputs, as the row maps them; raises LocalError."""
    found = to_parameters(
        service=spec.service, operation=operation, inputs=inputs, rename=spec.rename, convert=spec.convert
    )
    return _checked(operation, spec, found)


def _checked(operation: str, spec: TypeSpec, found: tuple[dict[str, Any], list[Problem]]) -> dict[str, Any]:
    parameters, problems = found
    if problems:
        raise LocalError(f"{spec.service}:{operation}: {problems[0].path} {problems[0].reason}")
    return parameters


def _identity(spec: TypeSpec, subject: Subject, inputs: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    if "{" in spec.id:
        return spec.id.format_map({"region": "", **inputs})
    found = jmespath.search(spec.id, answer)
    if not isinstance(found, str) or not found:
        raise LocalError(
            f"{subject.type} {subject.name}: {spec.service}:{spec.operation} answered without {spec.id}, so it has "
            "no id; the emulator does not keep this type"
        )
    return found


def _kept(inputs: Mapping[str, Any], old_outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of before, with what the provider says of the new tags."""
    kept = {name: value for name, value in old_outputs.items() if name != "tagsAll"}
    return {**kept, "tagsAll": inputs["tags"]} if isinstance(inputs.get("tags"), dict) else kept


def _by_name(state: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Outputs whose name equals a member of the API's state, apart from case; plain values only."""
    members = {normal(key): value for key, value in state.items() if isinstance(value, str | int | float)}
    return {name: members[normal(name)] for name in names if normal(name) in members}


def provider_configuration(values: Mapping[str, Any]) -> dict[str, Any]:
    """A provider's configuration with its structured values, which Pulumi hands over as JSON text, decoded."""
    return {key: _decoded(value) for key, value in values.items()}


def _decoded(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "["):
        return json.loads(value)
    return value
